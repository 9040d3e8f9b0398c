"""How many principal directions hold the variance of the latents."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError

__all__ = ["Fidelity", "fidelity", "fidelity_of"]


@dataclass(frozen=True)
class Fidelity:
    """Share of the latents' variance that the first k principal directions hold.

    n: latents it was measured on · share: (L,) cumulative, on latents that did not choose the directions ·
    low, high: (L,) 95 % interval by bootstrap over those latents
    """

    n: int
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def dimensions(self, fidelity: float = 0.95) -> int:
        """How many directions hold at least this share."""
        return int(np.searchsorted(self.share, fidelity) + 1)

    def table(self) -> pd.DataFrame:
        """directions (in words), share, low, high: for 1, 2, 4, ... directions."""
        k = 2 ** np.arange(int(np.log2(self.share.size)) + 1)
        words = [f"{i} direction{'s' * (i > 1)}" for i in k]
        return pd.DataFrame(
            {"directions": words, "share": self.share[k - 1], "low": self.low[k - 1], "high": self.high[k - 1]}
        )


def fidelity_of(model: Autoencoder, clips: Clips, seed: int = 0) -> Fidelity:
    """`fidelity` of a model: directions of the training latents, measured on the test latents (each frame of a series)."""
    fit, held = (model.latents(clips.split(s)).numpy() for s in ("train", "test"))
    if fit.ndim == 3:  # a series: (n, L, N) -> frames (n, N, L)
        fit, held = np.moveaxis(fit, 1, 2).reshape(-1, fit.shape[1]), np.moveaxis(held, 1, 2)
    return fidelity(fit, held, seed)


def fidelity(fit: np.ndarray, held: np.ndarray, seed: int = 0, repeats: int = 200) -> Fidelity:
    """Principal directions of the latents `fit` (n, L), and the variance of the latents `held` (m, L) along them.

    `held` may be (m, N, L), series of m clips: the bootstrap then draws clips, not frames.

    RAVE's fidelity (Caillon and Esling, 2021, https://arxiv.org/abs/2111.05011) takes both from the same latents, which
    flatters directions that few clips chose.
    """
    if len(fit) <= 2 or len(held) <= 2:
        raise UsageError(f"Principal directions of {len(fit)} latents measured on {len(held)} need at least 3 of each.")
    directions = np.linalg.eigh(np.cov(fit.T))[1][:, ::-1]
    energy = ((held - fit.mean(0)) @ directions) ** 2
    energy = energy.sum(1) if energy.ndim == 3 else energy
    rng = np.random.default_rng(seed)
    draws = np.stack([energy[rng.integers(len(held), size=len(held))].sum(0) for _ in range(repeats)])
    shares = draws.cumsum(1) / draws.sum(1, keepdims=True)
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    return Fidelity(len(held), energy.sum(0).cumsum() / energy.sum(), low, high)
