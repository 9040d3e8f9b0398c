"""Held-out clips and their reconstructions, beside what any model must beat."""

import numpy as np
import pandas as pd
import torch
import torchaudio
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.evaluation import metrics
from workbench.nn.losses import magnitudes, spectral_distance

__all__ = ["MOST", "convergence", "evaluate_reconstructions", "nearest", "pca_griffin_lim", "side_by_side"]

MOST = 128  # held-out clips a report decodes, and clips of one label it draws at most
PCA_CLIPS = 2048


def nearest(clips: Clips, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in `clips` of the nearest log-mel neighbour of each vector (n, D), and the cosine similarity."""
    distance, rows = NearestNeighbors(n_neighbors=1, metric="cosine").fit(clips.vectors()).kneighbors(vectors)
    return rows[:, 0], 1 - distance[:, 0]


def side_by_side(model: Autoencoder, clips: Clips, n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Originals and their reconstructions in turn, (2 n, T), and a title for each."""
    rows = clips.some(n, seed)
    x = torch.from_numpy(clips.audio(rows))[:, None]
    c = model.context_of(clips, rows)
    y = model.render(model.batched(model.encode, x), c)
    distance, named = spectral_distance(x, y), clips.index.iloc[rows]
    titles = [
        t
        for label, name, d in zip(named.label, named["name"], distance, strict=True)
        for t in (f"{label}: {name}", f"reconstruction ({d:.2f})")
    ]
    return torch.stack([x, y], 1)[:, :, 0].flatten(0, 1).numpy(), titles


def pca_griffin_lim(fit: Tensor, x: Tensor, k: int, n_fft: int = 1024, hop: int = 256) -> Tensor:
    """Clips (n, 1, T) as k principal components of their spectra would give them back.

    Components of the cube root of STFT magnitudes (which keeps more of a drum than the logarithm does), found on the
    clips `fit`; phases by 32 steps of Griffin and Lim, 1984, https://doi.org/10.1109/TASSP.1984.1164317
    """
    window = torch.hann_window(n_fft)

    def spectra(clips: Tensor) -> Tensor:
        parts = [
            torch.stft(c[:, 0], n_fft, hop, window=window, pad_mode="constant", return_complex=True)
            for c in clips.split(64)
        ]
        return torch.cat([p.abs().pow(1 / 3) for p in parts])

    a = spectra(fit).flatten(1)
    centre = a.mean(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        components = torch.pca_lowrank(a.sub_(centre), min(k, len(fit) - 1), center=False, niter=3)[2]
    del a
    s = spectra(x)
    back = ((s.flatten(1) - centre) @ components @ components.T + centre).clamp_min(0).pow(3).reshape(s.shape)
    back = torch.minimum(back, s.pow(3).amax((1, 2), keepdim=True))  # the cube of an overshoot is a blast
    vocode = torchaudio.transforms.GriffinLim(n_fft, 32, hop_length=hop, power=1.0, rand_init=False, length=x.shape[-1])
    return torch.cat([vocode(b) for b in back.split(32)])[:, None]


def convergence(x: Tensor, y: Tensor) -> float:
    """Spectral convergence, mean over clips (n, 1, T): the error of magnitudes over the magnitudes, 1 for silence
    (Arik et al., 2018, https://arxiv.org/abs/1808.06719)."""
    a, b = (magnitudes(v, 1024, 256).flatten(1) for v in (x, y))
    return float(((a - b).norm(dim=1) / a.norm(dim=1).clamp_min(1e-9)).mean())


def evaluate_reconstructions(model: Autoencoder, clips: Clips) -> tuple[pd.DataFrame, np.ndarray]:
    """Spectral distance of held-out clips from their reconstructions, beside what any model must beat.

    Baselines of the same run: the nearest training clip, principal components with as many numbers and Griffin-Lim,
    and silence. Returns a table (what, distance, low, high: 95 % bootstrap over clips, convergence, n, numbers per clip) and
    the distances of the model, one per clip.
    """
    fit, held = clips.split("train"), clips.split("test")
    rows = np.linspace(0, len(held) - 1, min(len(held), MOST)).astype(int)
    x = torch.from_numpy(held.audio(rows))[:, None]
    c = model.context_of(held, rows)
    z = model.batched(model.encode, x)
    some = np.random.default_rng(0).permutation(len(fit))[:PCA_CLIPS]
    numbers = z[0].numel()
    made = {
        "this model": model.render(z, c),
        f"PCA-{min(numbers, len(some) - 1)} + Griffin-Lim": pca_griffin_lim(
            torch.from_numpy(fit.audio(np.sort(some)))[:, None], x, numbers
        ),
        "nearest training clip": torch.from_numpy(fit.audio(nearest(fit, held.vectors(rows))[0]))[:, None],
        "silence": torch.zeros_like(x),
    }
    distances = {
        what: torch.cat([spectral_distance(a, b) for a, b in zip(x.split(32), y.split(32), strict=True)]).numpy()
        for what, y in made.items()
    }
    table = [
        {
            "what": what,
            "distance": d.mean(),
            **dict(zip(("low", "high"), metrics.bootstrap(d), strict=True)),
            "convergence": convergence(x, made[what]),
            "n": len(d),
        }
        for what, d in distances.items()
    ]
    return pd.DataFrame(table).assign(numbers=[numbers, min(numbers, len(some) - 1), 0, 0]), distances["this model"]
