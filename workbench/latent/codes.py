"""What each code of a discrete model sounds like, and sounds made of codes after a curve of what they should sound like."""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from sklearn.decomposition import PCA

from workbench import plots
from workbench.autoencoder import Autoencoder
from workbench.data import Clips, descriptors
from workbench.errors import UsageError
from workbench.models.vq import FLOOR, HEARD, Vq, loudest

__all__ = ["MEASURED", "Synthesis", "analyse", "check", "curve", "drawn", "follow", "in_order", "picture", "synthesise"]

MEASURED = ("centroid", "bandwidth", "pitch")
FRAMES = 32  # of one code in a row, by which it is measured
LEVEL = 0.1  # root mean square of what is measured
LOWEST = 40.0  # Hz, of a pitch


def check(model: Autoencoder, descriptor: str = "centroid", values: Sequence[float] = ()) -> None:
    """Refuse a family without codes, what codes are not measured by, and a curve of it that none can follow."""
    if not isinstance(model, Vq):
        raise UsageError(
            f"A '{model.family}' model has no codes; train one that has: `workbench run train -p family vq`."
        )
    if descriptor not in MEASURED:
        raise UsageError(f"Codes are not measured by '{descriptor}'; they are by {', '.join(MEASURED)}.")
    known = [isinstance(v, (int, float)) and 0 < v <= model.rate / 2 for v in values]
    if not all(known) or (len(values) and len(set(values)) < 2):
        raise UsageError(
            f"The curve came as {list(values)}; give at least 2 values in Hz that differ, above 0 and up to {model.rate / 2:g}."
        )


def steady(model: Vq, numbers: np.ndarray, level: float | np.ndarray = LEVEL) -> torch.Tensor:
    """Latents (n, L + 1, N) of codes (n, N) at a level, one for all or (n, N), in root mean square of the sound"""
    codes = model.codebook(torch.as_tensor(numbers))
    window = model.encoder.stft.window.square().sum()  # by Parseval, of a frame's magnitudes and its values
    gain = torch.as_tensor(level, dtype=codes.dtype).expand(codes.shape[0], codes.shape[2]) * window.sqrt()
    return torch.cat([codes, gain.clamp_min(FLOOR).log()[:, None]], 1)


def sound(model: Vq, numbers: np.ndarray, level: float | np.ndarray = LEVEL) -> np.ndarray:
    """Codes (n, N) as sounds (n, T')"""
    return model.render(steady(model, numbers, level))[:, 0].numpy()


def usage(model: Vq, clips: Clips) -> np.ndarray:
    """How many frames of these clips are given each code, (K,); frames of silence are not counted."""
    z = model.latents(clips)
    numbers = model.codebook.nearest(z[:, :-1])
    return torch.bincount(numbers[loudest(z[:, -1])], minlength=len(model.codebook.codes)).numpy()


def analyse(model: Vq, clips: Clips) -> pd.DataFrame:
    """Every code, held for FRAMES: centroid, bandwidth and pitch in Hz (pitch 0 where there is none), and `frames`, how
    many of the clips' are given it. Sorted by centroid."""
    n = len(model.codebook.codes)
    made = sound(model, np.repeat(np.arange(n)[:, None], FRAMES, 1))
    table = pd.DataFrame([descriptors.describe(x, model.rate) for x in made])[list(MEASURED)]
    return table.assign(code=np.arange(n), frames=usage(model, clips)).sort_values("centroid", ignore_index=True)


def in_order(model: Vq, table: pd.DataFrame, each: int = 4) -> np.ndarray:
    """The codes that clips use, in the order of the table, `each` frames of every one: a sound (T',)"""
    return sound(model, np.repeat(table.code[table.frames > 0].to_numpy(), each)[None])[0]


def picture(model: Vq, table: pd.DataFrame, descriptor: str) -> go.Figure:
    """The table's codes on the two principal directions of their points, in the colours of the logarithm of a descriptor."""
    points = model.codebook.codes.numpy()[table.code]
    plane = PCA(2).fit_transform(points)
    hover = [f"code {r.code}: {r.centroid:.0f} Hz, {r.frames} frames" for r in table.itertuples()]
    return plots.scatter(
        plane, np.log2(table[descriptor].clip(lower=LOWEST)), hover, f"codes, log2 of {descriptor} in Hz"
    )


def curve(x: np.ndarray, rate: float, descriptor: str, hop: int) -> np.ndarray:
    """A descriptor of MEASURED along a sound (T,), a value every `hop`"""
    if descriptor not in MEASURED:
        raise UsageError(f"There is no curve of '{descriptor}'; known are {', '.join(MEASURED)}.")
    n_fft = 2 * hop
    if descriptor == "pitch":
        return librosa.yin(x, fmin=LOWEST, fmax=rate / 8, sr=rate, frame_length=max(2048, n_fft), hop_length=hop)
    measure = librosa.feature.spectral_centroid if descriptor == "centroid" else librosa.feature.spectral_bandwidth
    return measure(y=x, sr=rate, n_fft=n_fft, hop_length=hop)[0]


@dataclass(frozen=True)
class Synthesis:
    """A sound made after a curve: x (T',), codes (N,), the descriptor asked for and measured (N,), in Hz, and which frames are
    `heard`: those within 60 dB of the loudest. The correlation is of these alone, as silence has no descriptor."""

    x: np.ndarray
    codes: np.ndarray
    asked: np.ndarray
    measured: np.ndarray
    heard: np.ndarray
    descriptor: str

    @property
    def correlation(self) -> float:
        return float(np.corrcoef(self.asked[self.heard], self.measured[self.heard])[0, 1])

    def figure(self) -> go.Figure:
        at = np.flatnonzero(self.heard)
        series = {"asked for": (at, self.asked[at]), "measured": (at, self.measured[at])}
        title = f"{self.descriptor} asked for and measured, correlation {self.correlation:.2f}"
        return plots.lines(series, "frame", f"{self.descriptor} in Hz", title)


def synthesise(
    model: Vq,
    table: pd.DataFrame,
    target: Sequence[float],
    descriptor: str = "centroid",
    level: float | np.ndarray = LEVEL,
) -> Synthesis:
    """Choose for each frame the code whose descriptor is nearest to the target's, on a logarithmic scale, and decode.

    Arguments:
        table: of `analyse`; codes that no clip uses, or that have no pitch where one is asked for, are left out.
        target: (N,) in Hz. level: root mean square of each frame (N,), or one for all.
    """
    check(model, descriptor)
    target = np.asarray(target, float)
    if target.ndim != 1 or len(target) < 4 or not (np.isfinite(target) & (target > 0)).all():
        raise UsageError(
            f"A target of shape {target.shape} came; it takes at least 4 values above 0 Hz, one for each frame."
        )
    known = table[(table.frames > 0) & (table[descriptor] > 0)]
    if known.empty:
        raise UsageError(
            f"None of the {len(table)} codes has a {descriptor}; ask for another of {', '.join(MEASURED)}."
        )
    apart = np.abs(np.log(target)[:, None] - np.log(known[descriptor].to_numpy())[None])
    numbers = known.code.to_numpy()[apart.argmin(1)]
    level = np.full(target.shape, level)
    x = sound(model, numbers[None], level[None])[0]
    found = curve(x, model.rate, descriptor, model.encoder.stft.hop)[: len(target)]
    return Synthesis(x, numbers, target, found, level > HEARD * level.max(), descriptor)


def drawn(model: Vq, table: pd.DataFrame, values: Sequence[float], descriptor: str) -> np.ndarray:
    """A curve of values in Hz stretched over a clip (N,); without values a sine over what the middle 80 % of codes reach."""
    n = model.decoder.noise.shape[3]
    if len(values):
        return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(values)), np.asarray(values, float))
    measured = np.log(table[descriptor][table[descriptor] > 0])
    low, high = measured.quantile([0.1, 0.9])
    return np.exp((low + high) / 2 + (high - low) / 2 * np.sin(np.linspace(0, 4 * np.pi, n)))


def follow(model: Vq, table: pd.DataFrame, x: np.ndarray, descriptor: str = "centroid") -> Synthesis:
    """Codes after the curve and the level of a sound (T,)"""
    hop = model.encoder.stft.hop
    level = librosa.feature.rms(y=x, frame_length=2 * hop, hop_length=hop)[0]
    target = curve(x, model.rate, descriptor, hop)
    return synthesise(model, table, np.where(target > 0, target, LOWEST), descriptor, level)
