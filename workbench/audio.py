"""A clip on disk and in memory: read, write, mix, resample, find the onset, fit to a length, keep the gain."""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from .errors import UsageError

__all__ = [
    "SUFFIXES",
    "AudioError",
    "Shot",
    "centre",
    "fit",
    "mono",
    "normalise",
    "onset",
    "onsets",
    "read",
    "resample",
    "shot",
    "write",
]

# What users call audio. libsndfile reads all but the last row, which is listed so that it is refused with a reason.
KNOWN = (
    ".wav .wave .wavex .w64 .rf64 .aif .aiff .aifc .flac .ogg .oga .opus .mp3 .mp2 .au .snd .caf "
    ".voc .avr .pvf .paf .svx .8svx .iff .sds .sd2 .sf .ircam .nist .sph .htk .mpc .wve .xi "
    ".m4a .aac .wma .ape .wv .tta .mp4 .amr"
)
SUFFIXES = frozenset(KNOWN.split())

SHORTEST = 0.002  # s; below this nothing is heard but a click
SILENT = 1e-4  # peak, -80 dB: 16-bit dither lies below, a file recorded at 1e-3 of full scale well above
LEAD = 0.0015  # s kept before the detected start, so that the attack is whole
FADE = 0.01  # s
LARGEST = 2**28  # values, 1 GiB of float32: what one call may put into memory


class AudioError(UsageError):
    """A file or an array that is no sound; the message is a reason to be shown to the user."""


class Shot(NamedTuple):
    """A clip ready to be stored: `x` (T,) float32 with peak 1, x * `gain` has its first level, `start` in seconds."""

    x: np.ndarray
    gain: float
    start: float


def read(path: str | os.PathLike, start: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file, or `seconds` of it from `start`, as (frames, channels) float32 and its rate in Hz.

    Integer formats lie in [-1, 1]; float files may exceed that. Raises AudioError, with the reason, for a file that is
    empty, not audio, unreadable, shorter than its header says, or that holds values that are not numbers.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError("the file is empty (0 bytes)")
        with soundfile.SoundFile(path) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            announced = _announced(file.extra_info)
            begin = min(round(start * rate), frames)
            count = frames - begin if seconds is None else min(round(seconds * rate), frames - begin)
            if count * channels > LARGEST:
                raise AudioError(
                    f"{count:,} frames of {channels} channels are more than the {LARGEST:,} values that are read at "
                    "once; cut the file into shorter ones"
                )
            if begin:
                file.seek(begin)
            x = file.read(count, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise AudioError(_reason(path, error)) from error
    if announced:
        raise AudioError(
            f"the file breaks off: its header announces {announced[0]:,} bytes of sound and {announced[1]:,} are "
            "there; fetch or export it again"
        )
    if frames == 0:
        raise AudioError("the file holds no frames, only a header")
    if len(x) < 0.99 * count:  # mp3 headers count a few frames more than there are
        raise AudioError(f"the file breaks off: its header announces {count:,} frames and {len(x):,} could be decoded")
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(1))
        raise AudioError(f"{bad.size:,} of {len(x):,} frames are not finite (NaN or infinity), the first at {bad[0]:,}")
    return x, rate


def _announced(log: str) -> tuple[int, int] | None:
    """Bytes that the header announces and bytes found, from libsndfile's log, where they tell of a broken download."""
    found = re.search(r"^(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if not found:
        return None
    announced, there = map(int, found.groups())
    # programs that write into a pipe cannot know the length and announce the largest number or none
    return (announced, there) if there < announced < 2**31 - 2**16 else None


def _reason(path: Path, error: Exception) -> str:
    if path.is_symlink() and not path.exists():
        return f"the link points to {os.readlink(path)}, which does not exist"
    if not path.exists():
        return "the file does not exist"
    if path.is_dir():
        return "this is a folder with the name of a sound file"
    if not os.access(path, os.R_OK):
        return "the file may not be read (no permission)"
    with open(path, "rb") as file:
        head = file.read(64)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "the file holds a web page, not audio; fetch it again"
    text = getattr(error, "error_string", str(error)).strip().rstrip(".")
    return f"libsndfile cannot read it ({text}); if it plays elsewhere, convert it to WAV or FLAC"


def write(path: str | os.PathLike, x: np.ndarray, rate: int) -> Path:
    """Write (T,) or (T, channels) as 16-bit WAV, values clipped to [-1, 1]; the file appears whole or not at all."""
    path = Path(path)
    x = np.asarray(x, dtype=np.float32)
    if x.ndim > 2:
        raise AudioError(f"a sound file holds (frames,) or (frames, channels), and the array has shape {x.shape}")
    if not np.isfinite(x).all():
        raise AudioError(
            f"{(~np.isfinite(x)).sum():,} of {x.size:,} values are not finite; {path.name} was not written"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pcm = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
        soundfile.write(temporary, pcm, rate, format="WAV", subtype="PCM_16")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def encode(x: np.ndarray, rate: float) -> bytes:
    """A clip as the bytes of a 16-bit FLAC file, for players in a page; values are clipped to [-1, 1], never scaled."""
    pcm = np.round(np.clip(np.nan_to_num(np.asarray(x, np.float64).reshape(-1)), -1, 1) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, round(rate), format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def mono(x: np.ndarray) -> np.ndarray:
    """Mix (frames, channels) to (frames,). Where the mix cancels (anti-phase stereo), the loudest channel stays."""
    if x.ndim == 1 or x.shape[1] == 1:
        return x.reshape(len(x))
    mix = x.mean(1)
    energy = np.square(x, dtype=np.float64).sum(0)
    if np.square(mix, dtype=np.float64).sum() < 0.01 * energy.max():  # 20 dB below the loudest channel
        return np.ascontiguousarray(x[:, energy.argmax()])
    return mix


def resample(x: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample (frames,) or (frames, channels) by soxr (high quality, linear phase)."""
    return x if from_rate == to_rate else soxr.resample(x, from_rate, to_rate, quality="HQ")


def centre(x: np.ndarray) -> np.ndarray:
    """Remove the constant offset of (T,).

    Where the end of a sound has gone quiet, the offset is read there: the mean of a few cycles of a kick is not zero,
    and taking it off would turn a silent tail into a step.
    """
    tail = x[-max(1, len(x) // 20) :].astype(np.float64)
    quiet = tail.std() < 0.02 * np.ptp(x)
    return x - np.float32(tail.mean() if quiet else x.mean(dtype=np.float64))


def onset(x: np.ndarray, rate: float) -> int:
    """Index where the sound in (T,) starts: 1.5 ms before it first comes within 40 dB of its peak; 0 for silence."""
    level = np.abs(x)
    peak = level.max(initial=0.0)
    return max(0, int(np.argmax(level > 0.01 * peak)) - round(LEAD * rate)) if peak > 0 else 0


def onsets(x: np.ndarray, rate: float, apart: float = 0.1) -> np.ndarray:
    """Indices where separate sounds start in a recording (T,), at least `apart` seconds from each other.

    Peaks of the rectified rise of the log-mel spectrum (spectral flux; Böck and Widmer 2013, as in librosa), each moved
    to where the energy rises most above all that came before within 23 ms.
    """
    import librosa  # brings a compiler along: only who cuts a recording waits for it

    hop, size, step = 256, 1024, 64
    peak = np.abs(x).max(initial=0.0)
    if len(x) < size or peak < SILENT:
        return np.zeros(0, int)
    padded = np.pad(x / peak, (size, 2 * size)).astype(np.float32)  # behind a sound cut at the end, too
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of mel bands narrower than a bin
        rise = librosa.onset.onset_strength(y=padded[:-size], sr=rate, n_fft=size, hop_length=hop)
    frames = librosa.onset.onset_detect(onset_envelope=rise, sr=rate, hop_length=hop, wait=round(apart * rate / hop))
    starts = []
    for centre in np.clip(frames * hop - size, 0, len(padded) - 2 * size):
        part = padded[centre : centre + 2 * size]  # one window on either side
        energy = np.square(part).reshape(-1, step).sum(1) + 1e-10
        at = 8 + int((energy[8:] / np.maximum.accumulate(energy)[7:-1]).argmax())
        if energy[at : at + 8].mean() > 0.5 * energy[at - 8 : at].mean():  # else it is where a sound breaks off
            starts.append(centre - size + at * step - round(LEAD * rate))
    return np.unique(np.clip(starts, 0, len(x) - 1))


def fit(x: np.ndarray, length: int, rate: float) -> np.ndarray:
    """Cut or zero-pad (T,) to (length,), with a fade-out of 10 ms where the sound would otherwise stop with a click."""
    y = np.zeros(length, np.float32)
    kept = min(len(x), length)
    y[:kept] = x[:kept]
    clicks = kept and np.abs(y[max(0, kept - 8) : kept]).max() > 1e-3 * np.abs(y).max()
    if len(x) > length or clicks:
        fade = min(kept, round(FADE * rate))
        y[kept - fade : kept] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    return y


def normalise(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale to peak 1; returns the clip and the gain that was removed: clip * gain is `x` again. Silence raises."""
    peak = float(np.abs(x).max(initial=0.0))
    if peak < SILENT:
        level = (
            f"its peak is {20 * np.log10(peak):.0f} dB, below {20 * np.log10(SILENT):.0f} dB" if peak else "all is zero"
        )
        raise AudioError(f"there is no sound in it: {level}")
    return x / np.float32(peak), peak


def shot(x: np.ndarray, from_rate: float, length: int, rate: float) -> Shot:
    """Make one clip of (frames, channels): mono, no offset, cut at its onset, resampled, fitted, peak 1."""
    if len(x) < SHORTEST * from_rate:
        lasting = f"{len(x)} frame{'s' * (len(x) != 1)} at {from_rate:g} Hz: {1000 * len(x) / from_rate:.2g} ms"
        raise AudioError(f"it holds {lasting}, and a clip needs {1000 * SHORTEST:g} ms")
    y = centre(mono(x))
    normalise(y)  # raises for silence, before the onset of nothing is looked for
    start = onset(y, from_rate)
    y = y[start : start + int((length / rate + 0.1) * from_rate)]  # a long tail need not be resampled
    y, gain = normalise(fit(resample(y, from_rate, rate), length, rate))
    return Shot(y, gain, start / from_rate)
