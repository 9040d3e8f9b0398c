"""Clips on disk and in memory: what is written is read, and one sound gives one clip however it was recorded."""

import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data import audio, onsets

RATE = 44_100
LENGTH = 16_384


def hit(seconds=0.3, rate=RATE, pitch=180.0, seed=0):
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.5 * np.exp(-t * 30) * (np.sin(2 * np.pi * pitch * t) + 0.1 * noise)).astype(np.float32)


def clip(x, rate=RATE):
    return audio.shot(np.atleast_2d(x.T).T, rate, LENGTH, RATE)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50), st.integers(1, 3), st.integers(8_000, 96_000))
def test_what_is_written_is_read(tmp_path_factory, values, channels, rate):
    x = np.repeat(np.array(values, np.float32)[:, None], channels, 1)
    path = audio.write(tmp_path_factory.mktemp("w") / "x.wav", x, rate)
    y, found = audio.read(path)
    assert found == rate and y.shape == x.shape and y.dtype == np.float32
    assert np.abs(y - x.clip(-1, 1)).max() < 1 / 16_000
    assert [p.name for p in path.parent.iterdir()] == ["x.wav"], "a temporary file was left"


@pytest.mark.parametrize(
    "name", ["WAV", "FLAC", "AIFF", "OGG", "MP3", "AU", "CAF", "W64", "RF64", "VOC", "SVX", "NIST"]
)
def test_every_format_gives_the_same_clip(tmp_path, name):
    x = hit()
    soundfile.write(tmp_path / "x", x, RATE, format=name, subtype={"VOC": "PCM_16", "SVX": "PCM_16"}.get(name))
    y, rate = audio.read(tmp_path / "x")
    a, b = clip(x), clip(y, rate)
    assert np.corrcoef(a.x[:4000], b.x[:4000])[0, 1] > 0.97, name
    assert b.gain == pytest.approx(a.gain, rel=0.15)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(2e-3, 8),
    st.integers(0, 20_000),
    st.floats(-0.3, 0.3),
    st.integers(1, 6),
    st.integers(0, 20_000),
)
def test_level_silence_offset_and_channels_do_not_change_the_clip(level, before, offset, channels, after):
    x = hit(1.0)
    alone = clip(x)
    dressed = np.concatenate([np.zeros(before), x, np.zeros(after)]) * level + offset * level
    made = clip(np.repeat(dressed[:, None], channels, 1).astype(np.float32))
    assert np.abs(made.x).max() == pytest.approx(1)
    assert made.gain == pytest.approx(alone.gain * level, rel=2e-2)
    shift = before - round(made.start * RATE)
    assert np.abs(made.x[shift:8000] - alone.x[: 8000 - shift]).max() < 2e-2
    assert shift / RATE == pytest.approx(min(before / RATE, onsets.ONSET), abs=1e-3)


def test_the_gain_gives_the_first_level_back():
    for level in (1e-3, 0.1, 1.0, 4.0):
        x = hit() * level
        made = clip(x)
        assert np.allclose(made.x[:5000] * made.gain, x[:5000] - (x - audio.centre(x))[:1], atol=1e-3 * level)


@pytest.mark.parametrize("rate", [8_000, 22_050, 22_254, 39_063, 48_000, 96_000, 192_000])
def test_the_rate_of_a_file_does_not_change_what_is_heard(rate):
    a, b = clip(hit(pitch=300)), clip(hit(rate=rate, pitch=300), rate)
    spectra = [np.abs(np.fft.rfft(made.x))[: int(2000 * LENGTH / RATE)] for made in (a, b)]
    assert np.corrcoef(*spectra)[0, 1] > 0.98, rate


def test_a_mix_never_loses_the_sound():
    x = hit()
    for name, other in {"anti-phase": -x, "silent": 0 * x, "equal": x, "almost anti-phase": -0.99 * x}.items():
        mixed = audio.mono(np.stack([x, other], 1))
        assert np.abs(mixed).max() >= 0.45 * np.abs(x).max(), name


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40_000), st.integers(1, 40_000))
def test_fit_gives_the_length_and_no_click_at_the_end(given_length, length):
    y = audio.fit(np.ones(given_length, np.float32), length, RATE)
    assert y.shape == (length,) and y.dtype == np.float32
    assert abs(y[min(given_length, length) - 1]) < 1e-6 or min(given_length, length) == 1
    fade = round(audio.FADE * RATE)
    assert np.all(y[: max(0, min(given_length, length) - fade)] == 1), "the sound before the fade must stay"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.15, 0.8), min_size=1, max_size=12), st.integers(0, 99))
def test_each_hit_of_a_recording_is_found(gaps, seed):
    places = np.cumsum([0.2, *gaps])
    x = 1e-4 * np.random.default_rng(seed).standard_normal(round((places[-1] + 1) * RATE)).astype(np.float32)
    for i, place in enumerate(places):
        sound = hit(0.14, pitch=150 + 90 * (i % 4), seed=i)
        x[round(place * RATE) :][: len(sound)] += sound
    found = np.array([piece.start for piece in onsets.pieces(x, RATE, 0.1) if not piece.reason]) / RATE
    assert len(found) == len(places)
    assert np.abs(found - places).max() < 0.006


def test_onsets_of_a_recording_that_ends_anywhere():
    """A loop that is cut in the middle of a sound has onsets near its end."""
    hit = np.random.default_rng(0).standard_normal(20_000) * np.exp(-np.arange(20_000) / 4000)
    loop = np.tile(hit, 12)
    for cut in range(0, 20_000, 331):
        x = loop[: len(loop) - cut]
        found = onsets.pieces(x, 44_100, 0.4)
        assert len(found) >= 11 and found[-1].end == len(x), cut


def test_what_is_no_sound_says_why(tmp_path):
    good = hit()
    soundfile.write(tmp_path / "good.wav", good, RATE)
    whole = (tmp_path / "good.wav").read_bytes()
    bad, worse = good.copy(), good.copy()
    bad[7], worse[100:200] = np.inf, np.nan
    soundfile.write(tmp_path / "inf.wav", bad, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "nan.wav", worse, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", good[:0], RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no audio " * 50)
    (tmp_path / "page.flac").write_text("<!doctype html><title>404</title>")
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "head.wav").write_bytes(whole[:20])
    (tmp_path / "folder.wav").mkdir()
    reasons = {}
    for name in [*(path.name for path in tmp_path.iterdir() if path.name != "good.wav"), "missing.wav"]:
        with pytest.raises(audio.AudioError) as told:
            audio.read(tmp_path / name)
        reasons[name] = str(told.value)
    assert len(set(reasons.values())) == len(reasons) == 10, reasons
    for name, word in {
        "half.wav": "breaks off",
        "page.flac": "web page",
        "empty.wav": "0 bytes",
        "nan.wav": "100",
    }.items():
        assert word in reasons[name], name


@pytest.mark.parametrize("x", [np.zeros((9000, 1)), np.full((9000, 2), 0.3), np.ones((1, 1)), 1e-6 * hit()[:, None]])
def test_silence_and_single_values_are_no_clip(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(audio.AudioError, match=r"no sound|needs 2 ms"):
            audio.shot(x.astype(np.float32), RATE, LENGTH, RATE)


def test_a_part_of_a_file_is_that_part(tmp_path):
    x = hit(1.0)
    audio.write(tmp_path / "x.wav", x, RATE)
    whole, _ = audio.read(tmp_path / "x.wav")
    part, _ = audio.read(tmp_path / "x.wav", start=0.25, seconds=0.5)
    assert np.array_equal(part, whole[11_025 : 11_025 + 22_050])
