"""Every sound of a file becomes a clip or is listed; what precedes the loudest one never takes its place."""

import numpy as np
import pytest

from workbench.data import audio, onsets

RATE = 44_100
CLIP = 1.0


def kick(seed, n=20_000):
    r, t = np.random.default_rng(seed), np.arange(n) / RATE
    f = 40 + r.uniform(0, 40) + r.uniform(100, 300) * np.exp(-t * r.uniform(20, 60))
    return 0.8 * np.sin(2 * np.pi * np.cumsum(f) / RATE) * np.exp(-t * r.uniform(5, 15))


def snare(seed, n=20_000):
    r, t = np.random.default_rng(seed), np.arange(n) / RATE
    x = r.standard_normal(n) * np.exp(-t * r.uniform(8, 40))
    return 0.7 * x / np.abs(x).max()


def chime(seed, n=20_000):
    r, t = np.random.default_rng(seed), np.arange(n) / RATE
    f = r.uniform(200, 900)
    x = sum(np.sin(2 * np.pi * f * h * t + r.uniform(0, 6)) * np.exp(-t * r.uniform(2, 9)) / h for h in range(1, 7))
    return 0.7 * x / np.abs(x).max()


def found(x):
    return [piece for piece in onsets.pieces(np.asarray(x, np.float32), RATE, CLIP) if not piece.reason]


def _hiss(n, level):
    return level * np.random.default_rng(0).standard_normal(n)


LEAD_INS = {
    "hiss": lambda n: _hiss(n, 0.0042),
    "loud hiss": lambda n: _hiss(n, 0.03),
    "hum": lambda n: 0.05 * np.sin(2 * np.pi * 50 * np.arange(n) / RATE),
    "hum of 120 Hz": lambda n: 0.1 * np.sin(2 * np.pi * 120 * np.arange(n) / RATE),
    "DC": lambda n: np.full(n, 0.1),
    "rumble of 8 Hz": lambda n: 0.3 * np.sin(2 * np.pi * 8 * np.arange(n) / RATE),
    "a tick": lambda n: np.where(np.arange(n) == n // 4, 0.5, 0),
    "a tick at full scale": lambda n: np.where(np.arange(n) == n // 4, 1.0, 0),
    "ticks in hiss": lambda n: np.where(np.arange(n) % 9000 == 5000, 0.3, _hiss(n, 0.004)),
    "silence": np.zeros,
    "silence, then hiss": lambda n: np.where(np.arange(n) > n // 3, _hiss(n, 0.006), 0),
}


@pytest.mark.parametrize("seconds", [0.3, 2.0])
@pytest.mark.parametrize("what", LEAD_INS)
@pytest.mark.parametrize("make", [kick, snare, chime])
def test_what_precedes_a_sound_is_left_out(what, seconds, make):
    before, hit = round(seconds * RATE), make(1, 30_000)
    x = np.append(LEAD_INS[what](before), hit)
    if what not in ("a tick at full scale",):
        assert found(x)[-1].start == pytest.approx(before, abs=0.004 * RATE)
    shot = audio.shot(x[:, None].astype(np.float32), RATE, 45_056, RATE)
    assert shot.start == pytest.approx(seconds, abs=0.004)
    assert shot.gain == pytest.approx(np.abs(hit).max(), rel=0.05), "the clip's peak is the file's"


@pytest.mark.parametrize("make", [kick, snare, chime])
@pytest.mark.parametrize("count, apart", [(4, 1.5), (24, 0.25), (8, 1.5), (3, 0.7), (40, 0.3)])
def test_a_file_with_several_sounds_is_cut_at_them(make, count, apart):
    n = round(apart * RATE)
    x = np.concatenate([np.pad(make(i, min(n, 30_000)), (0, max(0, n - 30_000))) for i in range(count)])
    starts = np.array([piece.start for piece in found(x)]) / RATE
    # of chimes that ring on for a quarter of a second one in twenty hides in the decay of the one before
    assert count - (count // 20 if make is chime else 0) <= len(starts) <= count
    assert np.abs(starts[:, None] - apart * np.arange(count)).min(1).max() < 0.005


@pytest.mark.parametrize("make", [kick, snare, chime])
def test_rows_whose_sounds_ring_into_each_other_are_cut(make):
    """A hard cut leaves no rise of level, and an octave of chimes none in the band of the one before."""
    for count, apart, loss in ((40, 0.1, 6), (10, 0.25, 1)):
        x = np.concatenate([make(i, round(apart * RATE)) for i in range(count)])
        assert count - loss <= len(found(x)) <= count, (count, apart)


@pytest.mark.parametrize("make", [kick, snare, chime])
def test_every_second_sound_is_soft(make):
    x = np.concatenate([make(i, 22_050) * (1 if i % 2 == 0 else 0.15) for i in range(10)])
    assert len(found(x)) >= (7 if make is chime else 10)  # chimes ring over those that follow


@pytest.mark.parametrize("level", [-23, -25, -30, -37])
def test_a_softer_second_sound_is_taken_or_listed(level):
    x = np.r_[kick(1, 18_000), np.zeros(2 * RATE), kick(2, 18_000) * 10 ** (level / 20), np.zeros(2 * RATE)]
    first, second = onsets.pieces(x.astype(np.float32), RATE, CLIP)
    assert not first.reason and second.start / RATE == pytest.approx(2.408, abs=0.01)
    assert (second.reason == "") == (level > -24)


@pytest.mark.parametrize("make", [kick, snare, chime])
def test_background_before_a_sound_is_listed_where_it_is_loud(make):
    t = np.arange(3 * RATE) / RATE
    backgrounds = {
        "hum": 0.2 * np.sin(2 * np.pi * 50 * t),
        "hiss that fades in": _hiss(len(t), 0.05) * t / 3,
        "a breath": _hiss(len(t), 0.03) * np.sin(np.pi * t / 6),
    }
    for what, lead in backgrounds.items():
        (hit,) = found(np.append(lead, make(1, 30_000)))
        assert hit.start / RATE == pytest.approx(3, abs=0.004), what


@pytest.mark.parametrize("make", [kick, snare, chime])
def test_sounds_behind_a_hard_cut_are_found(make):
    x = np.zeros(30 * RATE)
    for i in range(60):
        x[i * 22_050 :][:19_845] += make(i, 19_845)
    starts = np.array([piece.start for piece in found(x)]) / RATE
    assert len(starts) == 60 and np.abs(starts - 0.5 * np.arange(60)).max() < 0.004


def test_strokes_that_fit_into_a_clip_are_one_sound():
    """A guiro, a flam, a heartbeat: nothing is left out, so nothing is cut."""
    pieces = found(np.concatenate([kick(i, 9_000) for i in range(3)]))
    assert [(piece.start, piece.events) for piece in pieces] == [(0, 3)]


def test_a_tick_between_sounds_is_listed_and_hides_none():
    x = np.zeros(4 * RATE)
    for i in range(4):
        x[i * RATE + 2000 :][:20_000] += kick(i)
        x[i * RATE + 1000] = 0.9
    pieces = onsets.pieces(x.astype(np.float32), RATE, 0.8)
    assert len([piece for piece in pieces if not piece.reason]) == 4
    assert len([piece for piece in pieces if "tick" in piece.reason]) == 4


def test_a_swell_that_outlasts_the_clip_is_refused_with_its_time():
    x = np.sin(2 * np.pi * 220 * np.arange(3 * RATE) / RATE) * np.linspace(0, 1, 3 * RATE)
    (piece,) = onsets.pieces(x.astype(np.float32), RATE, CLIP)
    assert "2.9" in piece.reason and "1.00 s" in piece.reason
    (piece,) = onsets.pieces(x.astype(np.float32), RATE, 3.2)
    assert not piece.reason


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000, 96_000, 192_000])
def test_starts_do_not_depend_on_the_rate(rate):
    t = np.arange(rate // 2) / rate
    hit = np.exp(-20 * t) * np.sin(2 * np.pi * 200 * t)
    x = np.concatenate([np.zeros(rate), hit, np.zeros(rate), hit])
    starts = [piece.start / rate for piece in onsets.pieces(x.astype(np.float32), rate, CLIP)]
    assert starts == pytest.approx([1.0, 2.5], abs=0.004)


def test_silence_and_offsets_hold_no_sound():
    for x in (np.zeros(9000), np.full(9000, 0.3), np.ones(1)):
        assert onsets.pieces(x.astype(np.float32), RATE, CLIP) == []
