"""Where sounds lie: does the decoder use the latent, and along which directions do clips differ?"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.losses import spectral_distance

__all__ = ["Fidelity", "Usage", "codes", "fidelity", "fidelity_of", "usage"]

ACTIVE = 0.01  # variance of a dimension's posterior mean over clips (Burda et al., 2016, arXiv 1509.00519)
FEW = 16  # clips; with fewer neither the rise nor a variance means much
RISE = 0.05  # a decoder that loses less than this by a stranger's latent does not listen to it


@dataclass(frozen=True)
class Usage:
    """How much a model uses its latent, measured on n clips.

    distance, shuffled: mean spectral distance of reconstructions, with each clip's own latent and with another clip's ·
    variances: (L,) of the posterior mean over clips · kl: (L,) nats per dimension from N(0, I), or (1,) where there is
    only a whole
    """

    n: int
    distance: float
    shuffled: float
    variances: np.ndarray
    kl: np.ndarray

    @property
    def rise(self) -> float:
        return self.shuffled / max(self.distance, 1e-9) - 1

    @property
    def active(self) -> int:
        return int((self.variances > ACTIVE).sum())

    @property
    def nats(self) -> float:
        return float(self.kl.sum())

    def __str__(self) -> str:
        if self.n < FEW:
            return f"{self.n} clips are too few to tell whether the decoder listens to z; it takes {FEW}."
        return self.alarm or (
            f"The decoder listens to z: another clip's latent makes the distance {self.rise:+.0%} worse; "
            f"{self.active} of {self.variances.size} dimensions are active, {self.nats:.1f} nats per clip."
        )

    @property
    def alarm(self) -> str:
        """Empty for a healthy model, otherwise what is wrong and what to change."""
        if (self.rise >= RISE and self.active > 1) or self.n < FEW:
            return ""
        return (
            f"COLLAPSE: the decoder ignores z. Another clip's latent makes the distance only {self.rise:+.1%} worse "
            f"({self.distance:.3f} -> {self.shuffled:.3f}; a model that listens loses more than {RISE:.0%}), and {self.active} of "
            f"{self.variances.size} dimensions carry information. Lower `beta` (a tenth is a good first step), raise `free_bits` "
            "(0.1 nats) or lengthen `warmup` where the family has them; if nothing was learned at all, train longer first."
        )


def usage(model: Autoencoder, clips: Clips, n: int = 128, seed: int = 0) -> Usage:
    """Measure on up to n clips, chosen by seed, what the decoder does with z; needs at least 2 clips."""
    if len(clips) < 2:
        raise UsageError(f"Shuffling latents between clips needs at least 2 clips, but there are {len(clips)}.")
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(clips))[:n])
    x = torch.from_numpy(clips.audio(rows))[:, None]
    c = torch.from_numpy(clips.context(rows)) if model.context_spec else None
    h = model.batched(model.encoder, x)
    z = model.batched(lambda f: model.posterior_of(f).mean, h)
    kl = model.batched(
        lambda f, e: nats(model, f, e), h, torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
    )
    other = np.roll(np.arange(len(rows)), 1 + int(rng.integers(len(rows) - 1)))  # nobody keeps their own

    def distance(latents: Tensor) -> float:
        # The label stays the clip's own: what is asked is whether z matters.
        return float(
            model.batched(
                lambda a, b: spectral_distance(a, b, overlap=2), x, model.batched(model.decode, latents, c)
            ).mean()
        )

    variances = z.transpose(0, 1).flatten(1).var(1).numpy()
    return Usage(len(rows), distance(z), distance(z[other]), variances, kl.mean(0).numpy())


def codes(model: Autoencoder, clips: Clips, folder: Path | None = None) -> Tensor:
    """The posterior mean of every clip, (N, L), kept in `folder` (the run's) until store or model change."""
    kept = None if folder is None else Path(folder) / "latents.safetensors"
    made_of = {"data": clips.fingerprint, "clips": str(len(clips)), "model": model.fingerprint()}
    if kept is not None and kept.is_file():
        with safetensors.safe_open(kept, "pt") as file:
            if file.metadata() == made_of:
                return file.get_tensor("z")
    z = model.latents(clips)
    if kept is not None:
        part = kept.with_suffix(f".{os.getpid()}.part")
        safetensors.torch.save_file({"z": z.contiguous()}, part, made_of)
        part.replace(kept)
    return z


def nats(model: Autoencoder, h: Tensor, noise: Tensor) -> Tensor:
    posterior = model.posterior_of(h)
    return posterior.kl_standard(posterior.sample(noise))


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
