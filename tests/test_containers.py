"""Sound files are taken whole, whatever their headers announce, or refused with what is missing; nothing hangs or grows."""

import io
import os
import resource
import struct
from itertools import product

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data import audio, containers

RATE = 44_100
SUBTYPES = dict.fromkeys(["VOC", "SVX", "AVR", "HTK", "MPC2K", "SDS"], "PCM_16") | {"WVE": "ALAW", "XI": "DPCM_16"}
FORMATS = sorted(set(soundfile.available_formats()) - {"RAW", "SDS", "SD2"})  # SDS prints, SD2 has a second file
SILENT_ON_LENGTH = {"PAF", "PVF", "IRCAM", "XI", "MAT4", "MAT5"}  # their headers do not say how long they are


def sound(n=40_000):
    t = np.arange(n) / RATE
    return (0.8 * np.sin(2 * np.pi * 180 * t) * np.exp(-4 * t)).astype(np.float32)


def encoded(name, x=None, **how):
    file = io.BytesIO()
    rate = 8000 if name == "WVE" else RATE
    soundfile.write(file, sound() if x is None else x, rate, format=name, subtype=SUBTYPES.get(name), **how)
    return bytearray(file.getvalue())


def taken(tmp_path, data, name):
    path = tmp_path / f"x.{name.lower()}"
    path.write_bytes(data)
    return audio.read(path)[0][:, 0]


@pytest.mark.parametrize("name", FORMATS)
def test_what_breaks_off_is_refused_with_what_is_missing(tmp_path, name):
    whole = encoded(name)
    assert len(taken(tmp_path, whole, name)) == pytest.approx(40_000, rel=0.04), "the whole file is taken"
    if name in SILENT_ON_LENGTH:
        return
    for share in (0.5, 0.9):
        with pytest.raises(audio.AudioError) as error:
            taken(tmp_path, whole[: int(share * len(whole))], name)
        assert len(str(error.value)) > 30, name


LIST = b"LIST" + struct.pack("<I", 60) + b"INFOISFT" + struct.pack("<I", 48) + b"Lavf58".ljust(48, b"\0")


def _sizes(data, places, value):
    for place in places:
        data[place : place + 4] = value
    return data


def _flac(data, frames):
    data[21] &= 0xF0
    data[22:26] = struct.pack(">I", frames)
    return data


UNTRUE = {
    "WAV never closed": ("WAV", lambda b: _sizes(b, (4, 40), bytes(4))),
    "WAV never closed, LIST behind it": ("WAV", lambda b: _sizes(b, (4, 40), bytes(4)) + LIST),
    "WAV of a pipe": ("WAV", lambda b: _sizes(b, (4, 40), b"\xff" * 4)),
    "WAV of a pipe, LIST behind it": ("WAV", lambda b: _sizes(b, (4, 40), b"\xff" * 4) + LIST),
    "WAV of a pipe, two chunks behind it": ("WAV", lambda b: _sizes(b, (4, 40), b"\xff" * 4) + LIST + LIST),
    "WAV of a pipe, a chunk of any name behind it": (
        "WAV",
        lambda b: (
            _sizes(b, (4, 40), b"\xff" * 4) + b"regn" + struct.pack("<I", 30_001) + bytes(range(256)) * 117 + bytes(50)
        ),
    ),
    "FLAC that announces less behind an ID3 tag": (
        "FLAC",
        lambda b: b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + _flac(b, 9_000),
    ),
    "AIFF never closed": ("AIFF", lambda b: _sizes(b, (4, b.find(b"SSND") + 4), bytes(4))),
    "AU never closed": ("AU", lambda b: _sizes(b, (8,), bytes(4))),
    "AU of a pipe": ("AU", lambda b: _sizes(b, (8,), b"\xff" * 4)),
    "FLAC of unknown length": ("FLAC", lambda b: _flac(b, 0)),
    "FLAC that announces less": ("FLAC", lambda b: _flac(b, 10_000)),
    "MP3 without its table": ("MP3", lambda b: b[containers._mpeg_frames(b)[0] :]),
}


@pytest.mark.parametrize("case", UNTRUE)
def test_a_header_that_announces_less_costs_nothing(tmp_path, case):
    name, damage = UNTRUE[case]
    x = taken(tmp_path, damage(encoded(name)), name)
    assert len(x) == pytest.approx(40_000, rel=0.05 if name == "MP3" else 1e-9)
    assert np.corrcoef(x[:40_000], sound()[: len(x)])[0, 1] > 0.9 if name != "MP3" else np.abs(x).max() > 0.5


def test_an_mp3_of_variable_rate_without_a_table_is_taken_whole(tmp_path):
    """libsndfile takes its length from the bit rate of the first frame, here that of silence."""
    x = np.concatenate([np.zeros(60_000, np.float32), np.random.default_rng(0).standard_normal(200_000) * 0.1])
    whole = encoded("MP3", x, bitrate_mode="VARIABLE", compression_level=0.3)
    first, frames, samples, _ = containers._mpeg_frames(whole)
    bare = whole[first:]
    for data in (bare, b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + bare):
        assert len(taken(tmp_path, data, "MP3")) == pytest.approx(frames * samples, abs=2 * samples)


REFUSED = {
    "FLAC that announces more": ("FLAC", lambda b: _flac(b, 90_000), "90,000 frames of sound and 40,000 are there"),
    "two FLAC files": ("FLAC", lambda b: b + b, "several FLAC files are joined"),
    "two OGG files": ("OGG", lambda b: b + b, "2 Ogg streams are joined"),
    "WAV whose header was written once": ("WAV", lambda b: _sizes(b, (40,), struct.pack("<I", 4096)), "never closed"),
    "AU whose header was written once": ("AU", lambda b: _sizes(b, (8,), struct.pack(">I", 4096)), "never closed"),
    "WAV whose header was written late": ("WAV", lambda b: _sizes(b, (40,), struct.pack("<I", 60_000)), "never closed"),
    "AU whose header was written late": ("AU", lambda b: _sizes(b, (8,), struct.pack(">I", 60_000)), "never closed"),
    "a rate of 7 Hz": ("WAV", lambda b: _sizes(b, (24,), struct.pack("<I", 7)), "announces 7 Hz"),
    "MP3 with a table, cut": ("MP3", lambda b: b[: len(b) // 2], "breaks off"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_whole_is_refused(tmp_path, case):
    name, damage, sentence = REFUSED[case]
    with pytest.raises(audio.AudioError) as error:
        taken(tmp_path, damage(encoded(name)), name)
    assert sentence in str(error.value)


@pytest.mark.parametrize("suffix", ["au", "snd", "wav", "flac", "mp3", "aif", "voc", "htk", "sph", "xi"])
@pytest.mark.parametrize("content", [b"notes on how these drums were recorded\n" * 400, bytes(range(256)) * 80])
def test_what_has_no_header_is_no_sound(tmp_path, suffix, content):
    with pytest.raises(audio.AudioError):
        taken(tmp_path, content, suffix)


@pytest.mark.parametrize(
    "value, count",
    [*product([30, 1e3, 1e9, 1e20, -1e38, np.inf, np.nan], [1, 5, 300]), (10, 1), (-5, 2)],
)
def test_a_value_beyond_all_scales_is_refused(tmp_path, value, count):
    x = sound()
    x[1000 : 1000 + count] = value
    soundfile.write(tmp_path / "x.wav", x, RATE, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=r"not finite|lie below 1|all but one"):
        audio.read(tmp_path / "x.wav")


def test_floats_that_are_scaled_like_integers_are_taken(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.round(sound() * 32767).astype(np.float32), RATE, subtype="FLOAT")
    assert np.abs(audio.read(tmp_path / "x.wav")[0]).max() > 20_000


def test_a_spike_that_drowns_the_sound_is_refused():
    """Five kicks with one value of 1,000 each would be the same clip: a tick and silence."""
    x = sound()
    x[3000] = 1000
    with pytest.raises(audio.AudioError, match="tick"):
        audio.shot(x[:, None], RATE, 32_768, RATE)


def test_a_name_that_is_not_utf8_is_opened(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    with open(path, "wb") as file:
        file.write(encoded("WAV"))
    assert len(audio.read(os.fsdecode(path))[0]) == 40_000


WHOLE = {name: bytes(encoded(name, sound(12_000))) for name in FORMATS}


@st.composite
def damaged(draw):
    name = draw(st.sampled_from(FORMATS))
    data = bytearray(WHOLE[name])
    match draw(st.sampled_from(["flip", "cut", "join", "insert"])):
        case "flip":
            for place in draw(st.lists(st.integers(0, 300), min_size=1, max_size=8)):
                data[place % len(data)] ^= draw(st.integers(1, 255))
        case "cut":
            del data[draw(st.integers(0, len(data))) :]
        case "join":
            other = WHOLE[draw(st.sampled_from(FORMATS))]
            data = data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]
        case "insert":
            place = draw(st.integers(0, 300)) % len(data)
            data[place:place] = draw(st.binary(min_size=1, max_size=9))
    return name, bytes(data)


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_damaged_files_are_taken_or_refused(tmp_path_factory, case):
    name, data = case
    path = tmp_path_factory.mktemp("fuzz") / f"x.{name.lower()}"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        x, rate = audio.read(path)
        mono = audio.mono(x)
        for piece in audio.parts(mono, rate, 16_384, RATE):
            if not piece.reason:
                assert np.isfinite(audio.cut(mono, piece, rate, 16_384, RATE).x).all()
    except audio.AudioError as error:
        assert len(str(error)) > 15
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 2**20, f"{name}: {grown} KiB for {len(data)} bytes"
