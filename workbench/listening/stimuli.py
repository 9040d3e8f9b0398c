"""Sounds for listening tests: of one loudness, and anchors that anyone hears to be bad."""

import math
from collections.abc import Mapping

import numpy as np
from scipy import signal

from workbench.data import audio
from workbench.errors import UsageError

__all__ = ["PEAK", "loudness", "low_pass", "matched"]

PEAK = 0.9


def loudness(clips: np.ndarray, rate: float) -> np.ndarray:
    """Loudness of clips (n, T) in LUFS: the K-weighted level of the loudest 400 ms, (n,); -inf for silence.

    Weighting and scale of ITU-R BS.1770 (a sine of full scale at 997 Hz has -3.01), without gates, which a single sound
    does not need: the maximum momentary loudness by which EBU R 128 s1 judges short forms.
    """
    block = round(0.4 * rate)
    x = np.pad(np.asarray(clips, np.float64), ((0, 0), (0, block)))
    for b, a in _k_weighting(rate):
        x = signal.lfilter(b, a, x)
    energy = np.pad(np.cumsum(x * x, 1), ((0, 0), (1, 0)))
    with np.errstate(divide="ignore"):
        return -0.691 + 10 * np.log10((energy[:, block:] - energy[:, :-block]).max(1) / block)


def _k_weighting(rate: float):
    """The two filters of BS.1770, given there at 48 kHz, at any rate: a shelf of 4 dB for the head, and a high-pass."""
    k, q, high = math.tan(math.pi * 1681.974450955533 / rate), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle, a0 = high**0.4996667741545416, 1 + k / q + k * k
    yield (
        np.array([high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k]) / a0,
        np.array([a0, 2 * (k * k - 1), 1 - k / q + k * k]) / a0,
    )
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    yield np.array([1.0, -2.0, 1.0]), np.array([a0, 2 * (k * k - 1), 1 - k / q + k * k]) / a0


def low_pass(clips: np.ndarray, rate: float, cutoff: float) -> np.ndarray:
    """Clips (n, T) of which nothing above `cutoff` Hz is left (60 dB, elliptic, without delay): an anchor."""
    if cutoff >= 0.49 * rate:
        raise UsageError(
            f"Clips at {rate:,} Hz hold nothing above {rate / 2:,.0f} Hz, so a low-pass at {cutoff:,} Hz makes no anchor of them; "
            f"take clips at {2.1 * cutoff:,.0f} Hz or more."
        )
    sos = signal.iirdesign(0.94 * cutoff, cutoff, 0.05, 30, ftype="ellip", output="sos", fs=rate)
    room = ((0, 0), (round(0.05 * rate), round(0.05 * rate)))
    x = signal.sosfiltfilt(sos, np.pad(clips, room), padlen=0)
    return x[:, room[1][0] : room[1][0] + clips.shape[1]].astype(np.float32)


def matched(sets: Mapping[str, np.ndarray], rate: float) -> tuple[dict[str, np.ndarray], float]:
    """All clips at one loudness, the largest at which none has a peak above 0.9; and that loudness in LUFS."""
    loud, peak = ({k: f(x) for k, x in sets.items()} for f in (lambda x: loudness(x, rate), lambda x: np.abs(x).max(1)))
    for name, peaks in peak.items():
        if (quiet := np.flatnonzero(peaks < audio.SILENT)).size:
            raise UsageError(
                f"Clip {quiet[0]} of '{name}' is silent (peak {peaks[quiet[0]]:.1g}), so it cannot be made as loud as the others; "
                "take other clips, by another seed, and tell of the silence beside the result."
            )
    level = float(min((loud[k] + 20 * np.log10(PEAK / peak[k])).min() for k in sets))
    return {k: (x * 10 ** ((level - loud[k]) / 20)[:, None]).astype(np.float32) for k, x in sets.items()}, level
