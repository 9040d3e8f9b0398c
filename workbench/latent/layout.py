"""Latents laid out in two or three dimensions by UMAP."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.manifold import trustworthiness
from torch import Tensor

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.latent.means import kept, posterior_means

__all__ = ["Chart", "chart", "near"]


@dataclass(frozen=True)
class Chart:
    """A map of latents: places of all clips (N, d) and of draws from the prior (n, d), in one UMAP.

    z, c: latents (n, L) and labels of the draws · trust: share of the map's neighbourhoods that are neighbourhoods of
    the latents, 1 at best and about 0.5 by chance (trustworthiness; Venna and Kaski, 2001,
    https://doi.org/10.1007/3-540-44668-0_68), on up to 2,000 clips
    """

    clips: np.ndarray
    draws: np.ndarray
    z: Tensor
    c: Tensor | None
    trust: float

    def __str__(self) -> str:
        return (
            f"{len(self.clips):,} clips and {len(self.draws)} draws on the map; its neighbourhoods are those of the latents "
            f"to {self.trust:.2f} (trustworthiness: 1 at best, about 0.5 by chance)."
        )


def chart(
    model: Autoencoder,
    clips: Clips,
    folder: Path | None = None,
    dimensions: int = 2,
    draws: int = 200,
    neighbours: int = 15,
    seed: int = 0,
) -> Chart:
    """Lay latents out on a map in 2 or 3 dimensions; `folder` keeps it, since it takes a minute for 20,000 clips.

    UMAP (McInnes, Healy and Melville, 2018, https://arxiv.org/abs/1802.03426) by Euclidean distance of posterior means.
    Draws are laid out together with the clips: placed afterwards, among their neighbours, they would seem to lie among
    clips wherever they are. A latent of as many dimensions as the map has is shown as it is.
    """
    if dimensions not in (2, 3) or neighbours < 2 or draws < 0:
        raise UsageError(
            f"A map in {dimensions} dimensions of {neighbours} neighbours and {draws} draws was asked; 2 or 3 dimensions "
            "are drawn, of at least 2 neighbours and any number of draws."
        )
    drawn, c = model.draw(max(draws, 1), seed=seed)
    drawn, c = drawn[:draws], None if c is None else c[:draws]
    z = torch.cat([posterior_means(model, clips, folder), drawn]).numpy()
    if len(z) < 3 * neighbours:
        raise UsageError(
            f"{len(clips)} clips and {draws} draws are too few for a map of {neighbours} neighbours each, which takes "
            f"{3 * neighbours}: lower `neighbours` or add clips."
        )

    def fit() -> Tensor:
        if z.shape[1] == dimensions:
            return torch.from_numpy(z)  # it is its own map
        import umap  # compiles itself for seconds: only who has no map yet waits for it

        print(f"Laying out {len(z):,} latents in {dimensions} dimensions; this is done once ...")
        with warnings.catch_warnings(action="ignore"):  # of the single thread that a seed means
            made = umap.UMAP(neighbours, n_components=dimensions, random_state=seed, n_jobs=1).fit_transform(z)
        return torch.from_numpy(np.asarray(made, np.float32))

    name = f"map-{dimensions}d-{draws}-{neighbours}-{seed}"
    places = kept(folder, name, model, clips, fit).numpy()
    some = np.random.default_rng(seed).permutation(len(clips))[:2000]
    k = min(neighbours, len(some) // 2 - 1)
    trust = float(trustworthiness(z[some], places[some], n_neighbors=k)) if k > 0 else float("nan")
    return Chart(places[: len(clips)], places[len(clips) :], drawn, c, trust)


def near(points: np.ndarray, place: np.ndarray, k: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The k points (n, d) nearest to a place (d,), and weights that sum to 1, as the inverse square of the distance."""
    distance = np.square(points - place).sum(1)
    rows = np.argpartition(distance, min(k, len(points)) - 1)[:k]
    rows = rows[distance[rows].argsort()]
    weights = 1 / np.maximum(distance[rows], 1e-9 * max(distance[rows[-1]], 1e-12))
    return rows, (weights / weights.sum()).astype(np.float32)
