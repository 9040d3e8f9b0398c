"""A clip on disk and in memory: read, write, mix, resample, cut out, fit to a length, keep the gain."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from workbench.data import onsets
from workbench.data.containers import LARGEST, AudioError, open_sound
from workbench.files import whole

__all__ = [
    "SUFFIXES",
    "AudioError",
    "Shot",
    "centre",
    "cut",
    "fit",
    "mono",
    "normalise",
    "parts",
    "read",
    "resample",
    "seconds",
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

SHORTEST = 0.002  # s; a shorter sound is a click
SILENT = 1e-4  # peak, -80 dB: 16-bit dither lies below, a file recorded at 1e-3 of full scale well above
FADE = 0.01  # s
HOT = 16.0  # 24 dB above full scale


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
    with _opened(path) as file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
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
        # the encoder's delay is counted by some headers of lossy formats, and taken off by the decoder
        if len(x) < (0.99 * count if file.format in ("MP3", "OGG") else count):
            raise AudioError(
                f"the file breaks off: its header announces {count:,} frames and {len(x):,} could be decoded"
            )
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(1))
        raise AudioError(f"{bad.size:,} of {len(x):,} frames are not finite (NaN or infinity), the first at {bad[0]:,}")
    if (peak := np.abs(x).max(initial=0.0)) > HOT and np.median(np.abs(x[x != 0])) < 1:
        # floats may be scaled like integers; then none but zero lies below 1
        at = int(np.abs(x).max(1).argmax())
        raise AudioError(f"frame {at:,} holds {peak:.3g}, and half of the others lie below 1: the file is damaged")
    if peak > 1 and len(x) > 2:
        third = np.partition(level := np.abs(x).max(1), -3)[-3]
        if 0 < third <= min(1, peak / 4):  # a peak of real sound has neighbours
            raise AudioError(
                f"frame {int(level.argmax()):,} holds {peak:.3g}, and all but one of the others {third:.3g} at most: the file is damaged"
            )
    return x, rate


def seconds(path: str | os.PathLike) -> float:
    """How long a sound file lasts; raises AudioError as `read` does."""
    with _opened(Path(path)) as file:
        return file.frames / file.samplerate


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError("the file is empty (0 bytes)")
        with open_sound(path) as file:
            yield file
    except AudioError:
        raise
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise AudioError(_reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    if path.is_symlink() and not path.exists():
        target = os.fsencode(os.readlink(path)).decode("utf-8", "replace")
        return f"the link points to {target}, which does not exist"
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
    pcm = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
    with whole(path) as part:
        soundfile.write(part, pcm, rate, format="WAV", subtype="PCM_16")
    return path


def encode(x: np.ndarray, rate: float) -> bytes:
    """A clip as the bytes of a 16-bit FLAC file, for players in a page; values are clipped to [-1, 1], never scaled."""
    pcm = np.round(np.clip(np.nan_to_num(np.asarray(x, np.float64).reshape(-1)), -1, 1) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    # Chromium plays no FLAC of a single block: the lowest level has blocks of 1,152 values, all others of 4,096
    level = {"compression_level": 0} if len(pcm) <= 4096 else {}
    soundfile.write(buffer, pcm, round(rate), format="FLAC", subtype="PCM_16", **level)
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
    """Make one clip of (frames, channels): that of its sounds which holds the greatest value."""
    y = mono(x)
    found = parts(y, from_rate, length, rate)
    fit_in = [piece for piece in found if not piece.reason]
    if not fit_in:
        raise AudioError(found[0].reason)
    return cut(y, max(fit_in, key=lambda piece: np.abs(y[piece.start : piece.end]).max()), from_rate, length, rate)


def parts(y: np.ndarray, from_rate: float, length: int, rate: float) -> list[onsets.Piece]:
    """The sounds of a recording (T,) of which clips can be cut, and what is to be refused; raises for silence."""
    if len(y) < SHORTEST * from_rate:
        lasting = f"{len(y)} frame{'s' * (len(y) != 1)} at {from_rate:g} Hz: {1000 * len(y) / from_rate:.2g} ms"
        raise AudioError(f"it holds {lasting}, and a clip needs {1000 * SHORTEST:g} ms")
    normalise(centre(y))
    return onsets.pieces(y, from_rate, length / rate)


def cut(y: np.ndarray, piece: onsets.Piece, from_rate: float, length: int, rate: float) -> Shot:
    """Make one clip of a part of (T,): no offset, resampled, fitted, peak 1. Raises for silence and for a tick."""
    part = centre(y[piece.start : piece.end])
    part = part[: int((length / rate + 0.1) * from_rate)]  # a long tail need not be resampled
    quarter = max(1, round(SHORTEST / 4 * from_rate))
    loud = np.flatnonzero(np.abs(part) >= 0.01 * np.abs(part).max(initial=0.0))
    if len(loud) and len(np.unique(loud // quarter)) < 4:
        raise AudioError(
            f"all of it but a tick of less than {1000 * SHORTEST:g} ms lies 40 dB below, which is no sound"
        )
    clip, gain = normalise(fit(resample(part, from_rate, rate), length, rate))
    return Shot(clip, gain, piece.start / from_rate)
