"""What the ear measures on a clip: brightness, attack, decay, noisiness, pitch, loudness; which clips sound alike."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["NAMES", "UNITS", "describe", "embed", "log_mel", "matrix"]

UNITS = {
    "loudness": "dB",
    "crest": "dB",
    "log_attack": "log10 s",
    "decay": "s",
    "duration": "s",
    "temporal_centroid": "s",
    "centroid": "Hz",
    "bandwidth": "Hz",
    "rolloff": "Hz",
    "flatness": "",
    "low": "",
    "mid": "",
    "high": "",
    "zero_crossings": "1/s",
    "pitch": "Hz",
    "pitch_confidence": "",
}
NAMES: tuple[str, ...] = tuple(UNITS)

SIZE, HOP = 1024, 512
EPSILON = 1e-10  # power; -100 dB


def describe(x: np.ndarray, rate: float) -> dict[str, float]:
    """Measure a clip (T,), values in [-1, 1], at `rate` Hz; returns {name: value} over NAMES, all finite.

    After the Timbre Toolbox (Peeters et al. 2011, doi:10.1121/1.3642604) unless said otherwise:

    loudness           level of the loudest 100 ms, A-weighted (IEC 61672), in dB of a full-scale 1 kHz square wave
    crest              peak over the RMS of the effective duration
    log_attack         log10 of the time in which the running peak rises from 20 to 90 %, at least 0.1 ms
    decay              from the loudest 10 ms to the last that lie within 40 dB of it
    duration           time the envelope is above 40 % of its largest value
    temporal_centroid  centre of gravity of the envelope
    centroid, bandwidth, rolloff  first two moments and 85 % point of the clip's mean magnitude spectrum
    flatness           geometric over arithmetic mean of the power spectrum, median of the frames within 40 dB:
                       0 for a tone, 1 for noise
    low, mid, high     share of the power below 200 Hz, between, above 2 kHz
    zero_crossings     per second, over the part within 40 dB
    pitch, pitch_confidence  largest clarity of the normalised square difference (McLeod and Wyvill 2005) after the
                       attack, 30 Hz to 5 kHz; both 0 where the clarity is below 0.5

    Silence, constants and single values give -100 dB, the shortest attack and 0 elsewhere.
    """
    x = np.asarray(x, np.float32).reshape(-1)
    x = x - x.mean() if x.size else np.zeros(1, np.float32)
    values = dict.fromkeys(NAMES, 0.0) | {"loudness": -100.0, "log_attack": -4.0}
    peak = float(np.abs(x).max())
    if peak < 1e-5:  # a constant leaves rounding errors behind
        return values

    block = max(1, round(0.01 * rate))
    envelope = np.sqrt(_blocks(x * x, block).mean(1))
    loudest, top = int(envelope.argmax()), float(envelope.max())
    audible = np.flatnonzero(envelope > 0.01 * top)
    span = x[audible[0] * block : (audible[-1] + 1) * block]
    rising = np.maximum.accumulate(np.abs(x))
    attack = (np.searchsorted(rising, 0.9 * peak) - np.searchsorted(rising, 0.2 * peak)) / rate
    seconds = block / rate
    values |= {
        "crest": 20 * np.log10(peak / np.sqrt((span.astype(np.float64) ** 2).mean())),
        "log_attack": np.log10(max(attack, 1e-4)),
        "decay": (audible[-1] - loudest) * seconds,
        "duration": (envelope > 0.4 * top).sum() * seconds,
        "temporal_centroid": (envelope * np.arange(len(envelope))).sum() / envelope.sum() * seconds,
        "zero_crossings": np.count_nonzero(np.diff(np.signbit(span))) / (len(span) / rate),
    }

    power = _power(x)  # (frames, bins)
    frequency = np.fft.rfftfreq(SIZE, 1 / rate)
    level = power.sum(1)
    near = max(1, round(0.1 * rate / HOP))
    weighted = np.convolve(power @ _a_weighting(rate), np.ones(near) / near)
    values["loudness"] = max(-100.0, 10 * np.log10(weighted.max() + EPSILON))
    spectrum = power.sum(0, dtype=np.float64)
    magnitude = np.sqrt(spectrum) / np.sqrt(spectrum).sum()
    centroid = (frequency * magnitude).sum()
    heard = power[level > 1e-4 * level.max()]
    heard = heard + 1e-6 * heard.max(1, keepdims=True)  # a recording without treble is noise all the same
    below = np.cumsum(spectrum) / spectrum.sum()
    low, middle = (float(below[np.searchsorted(frequency, edge) - 1]) for edge in (200.0, min(2000.0, rate / 2)))
    values |= {
        "centroid": centroid,
        "bandwidth": np.sqrt((np.square(frequency - centroid) * magnitude).sum()),
        "rolloff": frequency[min(np.searchsorted(np.cumsum(magnitude), 0.85), len(frequency) - 1)],
        "flatness": np.median(np.exp(np.log(heard).mean(1)) / heard.mean(1)),
        "low": low,
        "mid": middle - low,
        "high": 1 - middle,
    }
    values["pitch"], values["pitch_confidence"] = _pitch(x, rate, start=loudest * block)
    return {name: float(value) for name, value in values.items()}


def matrix(clips: np.ndarray, rate: float) -> np.ndarray:
    """Descriptors of (N, T) or (N, 1, T) clips: (N, D) float64 in the order of NAMES."""
    return np.array([list(describe(x, rate).values()) for x in clips]).reshape(len(clips), len(NAMES))


def log_mel(x: np.ndarray, rate: float, mels: int = 40, floor: float = 60.0) -> np.ndarray:
    """Log-mel spectrogram (mels, frames) of a clip (T,) in dB above the floor that lies `floor` dB below its maximum.

    Frames of 1,024 values every 512; triangles on the HTK mel scale from 30 Hz to half the rate. Silence gives 0.
    """
    mel = _power(np.asarray(x, np.float32).reshape(-1)) @ _mel(rate, mels)
    top = max(float(mel.max()), EPSILON)
    return np.maximum(10 * np.log10(np.maximum(mel.T / top, 10 ** (-floor / 10))) + floor, 0)


def embed(clips: np.ndarray, rate: float) -> np.ndarray:
    """Vectors (N, 960) float32 of (N, T) clips whose inner product is the cosine of their log-mel pictures.

    40 mels by 24 moments that grow geometrically from the attack on; the mean of each vector is removed and its norm
    is 1 (0 for silence). Independent of level. Vectors compare between clips of one length.
    """
    pictures = (log_mel(x, rate) for x in clips)
    rows = [(picture @ _spans(picture.shape[1], 24)).ravel() for picture in pictures]
    vectors = np.array(rows, np.float32).reshape(len(rows), 40 * 24)
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-3)  # of dB: rounding


def _blocks(x: np.ndarray, size: int) -> np.ndarray:
    return np.pad(x, (0, -len(x) % size)).reshape(-1, size)


def _power(x: np.ndarray) -> np.ndarray:
    """Power spectrogram (frames, bins); a full-scale sine has 1 / 2 in sum. The first frame is centred on the start."""
    from scipy.fft import rfft

    padded = np.pad(x, (SIZE // 2, SIZE // 2 + -len(x) % HOP))
    window = np.hanning(SIZE).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP]
    spectrum = rfft(frames * window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return power * np.float32(2 / (SIZE * np.square(window).sum()))


@lru_cache
def _mel(rate: float, mels: int) -> np.ndarray:
    """(bins, mels) triangles of unit height."""
    points = 700 * (10 ** (np.linspace(np.log10(1 + 30 / 700), np.log10(1 + rate / 1400), mels + 2)) - 1)
    frequency = np.fft.rfftfreq(SIZE, 1 / rate)[:, None]
    left, middle, right = points[:-2], points[1:-1], points[2:]
    bank = np.minimum((frequency - left) / (middle - left), (right - frequency) / (right - middle)).clip(0)
    narrow = bank.sum(0) == 0  # low triangles that fall between two bins take the nearest bin
    bank[np.abs(frequency - middle).argmin(0)[narrow], np.flatnonzero(narrow)] = 1
    return bank.astype(np.float32)


@lru_cache
def _a_weighting(rate: float) -> np.ndarray:
    """(bins,) power weights of IEC 61672-1, 1 at 1 kHz."""
    f2 = np.fft.rfftfreq(SIZE, 1 / rate) ** 2
    gain = 12194**2 * f2**2 / ((f2 + 20.6**2) * np.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)) * (f2 + 12194**2))
    return (np.square(1.2589 * gain)).astype(np.float32)


@lru_cache
def _spans(frames: int, moments: int) -> np.ndarray:
    """(frames, moments) weights of means over spans that grow geometrically from one frame on."""
    edges = np.geomspace(1, frames + 1, moments + 1) - 1
    frame = np.arange(frames)[:, None]
    shares = (np.minimum(frame + 1, edges[1:]) - np.maximum(frame, edges[:-1])).clip(0)
    return (shares / np.diff(edges)).astype(np.float32)


def _pitch(x: np.ndarray, rate: float, start: int) -> tuple[float, float]:
    """Pitch in Hz and its clarity; 0, 0 where no lag explains half of the sound."""
    from scipy.fft import irfft, next_fast_len, rfft

    part = x[start : start + round(0.1 * rate)]
    n = len(part)
    if n < 64:
        return 0.0, 0.0
    size = next_fast_len(2 * n, real=True)
    correlation = irfft(np.abs(rfft(part, size)) ** 2, size)[:n]
    squares = np.concatenate([[0.0], np.cumsum(part.astype(np.float64) ** 2)])
    energy = squares[n:0:-1] + squares[n] - squares[:n]
    clarity = 2 * correlation / np.maximum(energy, 1e-12)
    first, last = max(2, int(rate / 5000)), min(int(rate / 30), n // 2)
    if last - first < 3:
        return 0.0, 0.0
    falls = np.flatnonzero(clarity[:last] < 0)  # the hill around lag 0 is no period
    first = max(first, falls[0] if falls.size else last)
    section = clarity[first:last]
    hills = 1 + np.flatnonzero((section[1:-1] >= section[:-2]) & (section[1:-1] > section[2:]))
    if not hills.size or section[hills].max() < 0.5:
        return 0.0, 0.0
    hill = hills[np.argmax(section[hills] > 0.9 * section[hills].max())]
    left, top, right = section[hill - 1 : hill + 2]
    shift = 0.5 * (left - right) / min(left - 2 * top + right, -1e-12)
    return rate / (first + hill + shift), float(min(top, 1.0))
