r"""Posteriors q(z | x) of a latent z, and their divergence from a prior p(z).

A variational autoencoder maximises a lower bound of the evidence of a clip x (Kingma and Welling, 2014,
https://arxiv.org/abs/1312.6114),

.. math:: \log p(x) \ge E_{q(z|x)}[\log p(x | z)] - \operatorname{KL}(q(z | x) \,\|\, p(z)),

where the divergence is counted in nats per clip: summed over the L dimensions of z and averaged over nothing but clips.

A *Gaussian posterior* is :math:`z_0 = \mu(x) + \sigma(x) \epsilon` with :math:`\epsilon \sim N(0, I)`. A *flow
posterior* carries that draw through a bijection :math:`z = f^{-1}(z_0; h(x))` conditioned on the encoder's features,
so that (Rezende and Mohamed, 2015, https://arxiv.org/abs/1505.05770)

.. math:: \log q(z | x) = \log N(z_0; \mu, \sigma^2) - \log |\det \partial f^{-1} / \partial z_0|

is exact. Its divergence has no closed form and is estimated by Monte Carlo, :math:`\log q(z|x) - \log p(z)`.
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Codes", "FlowPosterior", "Gaussian", "Posterior", "kl", "standard_log_prob"]

LOG_2PI = math.log(2 * math.pi)


class Posterior(abc.ABC):
    """q(z | x) of a batch of clips. `noise` is standard normal, shaped like z: randomness comes from the caller.

    `mean` is the point that stands for the clip, (B, L) or (B, L, N).
    """

    mean: Tensor

    @abc.abstractmethod
    def sample(self, noise: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Nats, (B,)"""

    @abc.abstractmethod
    def interpolate(self, other: "Posterior", t: Tensor) -> "Posterior":
        """On the way to another posterior of its kind: itself at weights t = 0, the other at 1; t like z, or spread over it."""

    @abc.abstractmethod
    def kl_standard(self, z: Tensor) -> Tensor:
        """Divergence from N(0, I) in nats, per dimension where it has a closed form: (B, L), otherwise (B, 1)."""


@dataclass(frozen=True)
class Gaussian(Posterior):
    """Diagonal Gaussian; `mean` and `log_std` are (B, L) or (B, L, N)."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        u = (z - self.mean) * (-self.log_std).exp()
        return -(0.5 * u.square() + self.log_std + 0.5 * LOG_2PI).flatten(1).sum(1)

    def interpolate(self, other: "Gaussian", t: Tensor) -> "Gaussian":
        """Means and logarithms of variances go straight."""
        return Gaussian(torch.lerp(self.mean, other.mean, t), torch.lerp(self.log_std, other.log_std, t))

    def kl_standard(self, z: Tensor | None = None) -> Tensor:
        nats = 0.5 * (self.mean.square() + (2 * self.log_std).exp() - 1) - self.log_std
        return nats.flatten(2).sum(2) if nats.dim() > 2 else nats


@dataclass(frozen=True)
class FlowPosterior(Posterior):
    """A Gaussian carried through a flow that is conditioned on the encoder's features `h` (B, H)."""

    base: Gaussian
    flow: nn.Module
    h: Tensor

    @property
    def mean(self) -> Tensor:
        """The image of the base's mean (not the expectation, which has no closed form)."""
        return self.flow.inverse(self.base.mean, self.h)[0]

    def sample(self, noise: Tensor) -> Tensor:
        return self.flow.inverse(self.base.sample(noise), self.h)[0]

    def log_prob(self, z: Tensor) -> Tensor:
        z0, ladj = self.flow(z, self.h)
        return self.base.log_prob(z0) + ladj

    def interpolate(self, other: "FlowPosterior", t: Tensor) -> "FlowPosterior":
        """The base and the features go straight, and the flow after them."""
        return FlowPosterior(self.base.interpolate(other.base, t), self.flow, torch.lerp(self.h, other.h, t))

    def kl_standard(self, z: Tensor) -> Tensor:
        return (self.log_prob(z) - standard_log_prob(z))[:, None]


@dataclass(frozen=True)
class Codes(Posterior):
    """The one series of codes that a clip is given, out of `size` equally likely ones for each frame.

    mean: (B, L, N) the codes' points, and what else the decoder gets exactly, such as gain · numbers: (B, N)
    """

    mean: Tensor
    numbers: Tensor
    size: int

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean

    def log_prob(self, z: Tensor) -> Tensor:
        """0 for the series itself, minus infinity for any other."""
        return torch.where((z == self.mean).flatten(1).all(1), 0.0, -math.inf)

    def interpolate(self, other: "Codes", t: Tensor) -> "Codes":
        """Points between two codes, as the decoder hears them; the numbers are those of the nearer end."""
        numbers = torch.where((t.expand_as(self.mean) < 0.5)[:, 0], self.numbers, other.numbers)
        return Codes(torch.lerp(self.mean, other.mean, t), numbers, self.size)

    def kl_standard(self, z: Tensor | None = None) -> Tensor:
        """From the uniform law over all series, as there is no N(0, I) of codes: N log size"""
        return self.mean.new_full((len(self.numbers), 1), self.numbers.shape[1] * math.log(self.size))


def standard_log_prob(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + LOG_2PI).flatten(1).sum(1)


def kl(posterior: Posterior, z: Tensor, free_bits: float = 0.0) -> tuple[Tensor, Tensor]:
    """Divergence of q(z | x) from N(0, I) in nats per clip, and the same with a floor, as training uses it.

    Free bits leave the first nats of each dimension unpunished (Kingma et al., 2016,
    https://arxiv.org/abs/1606.04934): the floor acts on a dimension's mean over the batch, or, for a posterior without
    a closed form, on the whole divergence.

    Arguments:
        z: the draw (B, L) that the reconstruction uses; Monte Carlo divergences need it.
        free_bits: nats per dimension.
    """
    nats = posterior.kl_standard(z).mean(0)
    floor = free_bits * z.shape[1] / nats.shape[0]
    return nats.sum(), nats.clamp_min(floor).sum()
