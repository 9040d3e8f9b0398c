"""Does the decoder use the latent? How the distance grows by another clip's latent, and which dimensions are active."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.nn.losses import spectral_distance

__all__ = ["Usage", "usage"]

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
    c = model.context_of(clips, rows)
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


def nats(model: Autoencoder, h: Tensor, noise: Tensor) -> Tensor:
    posterior = model.posterior_of(h)
    return posterior.kl_standard(posterior.sample(noise))
