r"""Posteriors q(z | x) and priors p(z) of a latent z, and the divergence between them.

A variational autoencoder maximises a lower bound of the evidence of a clip x (Kingma and Welling, 2014,
https://arxiv.org/abs/1312.6114),

.. math:: \log p(x) \ge E_{q(z|x)}[\log p(x | z)] - \operatorname{KL}(q(z | x) \,\|\, p(z)),

where the divergence is counted in nats per clip: summed over the L dimensions of z and averaged over nothing but clips.

A *Gaussian posterior* is :math:`z_0 = \mu(x) + \sigma(x) \epsilon` with :math:`\epsilon \sim N(0, I)`. A *flow
posterior* carries that draw through a bijection :math:`z = f^{-1}(z_0; h(x))` conditioned on the encoder's features,
so that (Rezende and Mohamed, 2015, https://arxiv.org/abs/1505.05770)

.. math:: \log q(z | x) = \log N(z_0; \mu, \sigma^2) - \log |\det \partial f^{-1} / \partial z_0|

is exact. Its divergence has no closed form and is estimated by Monte Carlo, :math:`\log q(z|x) - \log p(z)`.

Training pulls each q(z | x) towards a standard normal, but the *aggregate posterior*
:math:`\frac{1}{N} \sum_i q(z | x_i)` never gets there: draws from N(0, I) fall into holes that the decoder has never
seen. The cure is to fit a prior to the aggregate posterior once the encoder is frozen (two-stage VAE: Dai and Wipf,
2019, https://arxiv.org/abs/1903.05789). From poor to rich: standard normal, full-covariance Gaussian, Gaussian mixture,
normalizing flow. Each may know the label: p(z | c), and then :math:`p(z) = \sum_c p(c) p(z | c)`.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from workbench import flows
from workbench.errors import UsageError
from workbench.settings import PRIORS

__all__ = [
    "PRIORS",
    "Codes",
    "FlowPosterior",
    "FlowPrior",
    "Gaussian",
    "GaussianPrior",
    "MixturePrior",
    "Posterior",
    "Prior",
    "StandardPrior",
    "keyed_noise",
    "kl",
    "prior",
]

LOG_2PI = math.log(2 * math.pi)


def keyed_noise(seed: int | Sequence[int], index: Sequence[int], *size: int) -> Tensor:
    """Standard normal noise (n, *size), row i a function of (seed, index[i]) alone, whatever the batch.

    A counter-based generator, as torch's know only one stream: SplitMix64 (Steele et al., 2014,
    https://doi.org/10.1145/2660193.2660195) of (seed, index, place), through the normal quantile function.
    """
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    rows, places = np.asarray(index, np.uint64)[:, None], np.arange(math.prod(size), dtype=np.uint64)
    bits = splitmix(splitmix(rows ^ key) + places)
    return torch.from_numpy(ndtri(((bits >> np.uint64(11)) + 0.5) * 2.0**-53).astype(np.float32)).reshape(-1, *size)


def splitmix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# ---------------------------------------------------------------------------------------------------- posteriors


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
    def towards(self, other: "Posterior", t: Tensor) -> "Posterior":
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

    def towards(self, other: "Gaussian", t: Tensor) -> "Gaussian":
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

    def towards(self, other: "FlowPosterior", t: Tensor) -> "FlowPosterior":
        """The base and the features go straight, and the flow after them."""
        return FlowPosterior(self.base.towards(other.base, t), self.flow, torch.lerp(self.h, other.h, t))

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

    def towards(self, other: "Codes", t: Tensor) -> "Codes":
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


# -------------------------------------------------------------------------------------------------------- priors


class Prior(nn.Module, abc.ABC):
    """p(z) or p(z | c) of latents (B, L); c (B, C) is one row per clip that sums to one, a label or a mix of labels.

    What a decoder sees beside labels comes in further columns, which are of no matter here.

    Arguments:
        latent: L. contexts: C, 0 for a prior that knows no labels.
    """

    def __init__(self, latent: int, contexts: int = 0):
        super().__init__()
        self.latent, self.contexts = latent, contexts
        self.noise_size = latent
        self.register_buffer("frequency", torch.full((contexts,), 1 / max(contexts, 1)))  # p(c)

    @abc.abstractmethod
    def transport(self, noise: Tensor, c: Tensor | None) -> Tensor:
        """Standard normal noise (B, noise_size) -> z (B, L)"""

    @abc.abstractmethod
    def conditional_log_prob(self, z: Tensor, c: Tensor | None) -> Tensor:
        """log p(z | c) in nats, (B,)"""

    @abc.abstractmethod
    def fit(self, z: Tensor, c: Tensor | None, draws: int = 1) -> None:
        """Set what has a closed form from draws of the aggregate posterior, (N, L) and (N, C): all clips, `draws` times."""

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """log p(z | c), or log p(z) where c is None or a row of zeros (a clip of an unknown label)."""
        if not self.contexts:
            return self.conditional_log_prob(z, None)
        if c is None:
            rows = torch.eye(self.contexts, dtype=z.dtype, device=z.device)
            each = [self.conditional_log_prob(z, r.expand(len(z), -1)) for r in rows]
            return torch.logsumexp(torch.stack(each) + self.frequency.clamp_min(1e-12).log()[:, None], 0)
        c = self.labelled(c)
        known = c.sum(1) > 0
        if known.all():
            return self.conditional_log_prob(z, c)
        result = z.new_empty(len(z))
        result[~known] = self.log_prob(z[~known])
        if known.any():
            result[known] = self.conditional_log_prob(z[known], c[known])
        return result

    def sample(self, n: int, c: Tensor | None = None, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """n latents (n, L); row i is a function of (seed, i). Without c, a prior that knows labels draws them too."""
        noise = keyed_noise([seed, 0], range(n), self.noise_size).to(self.frequency)
        noise[:, : self.latent] *= temperature  # what picks a mixture's component stays as it is
        return self.transport(noise, self.labels(n, seed) if c is None else self.labelled(c))

    def labelled(self, c: Tensor | None) -> Tensor | None:
        """The columns of c that are labels, or None for a prior without"""
        return c[:, : self.contexts] if c is not None and self.contexts else None

    def labels(self, n: int, seed: int) -> Tensor | None:
        """One-hot labels (n, C) after p(c), keyed like the draws."""
        if not self.contexts:
            return None
        u = torch.special.ndtr(keyed_noise([seed, 1], range(n), 1)[:, 0]).to(self.frequency)
        rows = torch.searchsorted(self.frequency.cumsum(0), u).clamp_max(self.contexts - 1)
        return nn.functional.one_hot(rows, self.contexts).to(self.frequency)


class StandardPrior(Prior):
    """N(0, I), whatever the label: what a plain variational autoencoder draws from."""

    def transport(self, noise: Tensor, c: Tensor | None) -> Tensor:
        return noise

    def conditional_log_prob(self, z: Tensor, c: Tensor | None) -> Tensor:
        return standard_log_prob(z)

    def fit(self, z: Tensor, c: Tensor | None, draws: int = 1) -> None:
        if c is not None:
            self.frequency.copy_(c.mean(0))


class MixturePrior(Prior):
    r"""Gaussian mixture of each label: a component for every twelve clips, but at most `components`.

    Density estimation after training, on the latents of a frozen encoder (Ghosh et al., 2020,
    https://arxiv.org/abs/1903.12436). A component's covariance is shrunk towards the pooled one within components,
    :math:`(n_k \Sigma_k + L \Sigma) / (n_k + L)`, since it stands for fewer clips than z has dimensions (regularised
    discriminant analysis: Friedman, 1989, https://doi.org/10.2307/2289860). Several components hardly raise the held-out
    likelihood over one, but their draws keep to the sounds that there are: one Gaussian around the chimes of all
    pitches has its centre where no chime is.
    """

    CLIPS = 12

    def __init__(self, latent: int, contexts: int = 0, components: int | None = None):
        super().__init__(latent, contexts)
        self.noise_size = latent + 1  # the last one picks the component
        rows, k = max(contexts, 1), components or (8 if contexts else 32)
        self.register_buffer("weights", torch.full((rows, k), 1 / k))  # p(k | c); spare components weigh 0
        self.register_buffer("means", torch.zeros(rows, k, latent))
        self.register_buffer("roots", torch.eye(latent).repeat(rows, k, 1, 1))  # Cholesky factors

    def fit(self, z: Tensor, c: Tensor | None, draws: int = 1) -> None:
        from sklearn.mixture import GaussianMixture

        StandardPrior.fit(self, z, c)
        z = z.cpu().double()  # in full precision, which not every device has
        labels = torch.zeros(len(z), dtype=torch.long) if c is None else c.argmax(1).cpu()
        components = []  # (label, component, draws)
        for row in range(len(self.weights)):
            own = z[labels == row]
            own = own if len(own) else z  # a label without clips: anything may be meant
            k = min(max(len(own) // draws // self.CLIPS, 1), self.weights.shape[1])
            which = np.zeros(len(own), int)
            if k > 1:
                which = GaussianMixture(k, covariance_type="tied", reg_covar=1e-2, random_state=0).fit_predict(own)
            components += [(row, i, own[torch.from_numpy(which == i)]) for i in range(k) if (which == i).any()]
        scatter = [(g - g.mean(0)).T @ (g - g.mean(0)) for _, _, g in components]
        jitter = 1e-4 * torch.eye(self.latent, dtype=z.dtype)
        pooled = sum(scatter) / sum(len(g) for _, _, g in components) + jitter
        strength = self.latent * draws if len(components) > 1 else 0
        self.weights.zero_()
        for (row, i, g), s in zip(components, scatter, strict=True):
            self.weights[row, i] = len(g)
            self.means[row, i] = g.mean(0).float()  # as Apple's devices know no doubles
            self.roots[row, i] = torch.linalg.cholesky((s + strength * pooled) / (len(g) + strength) + jitter).float()
        self.weights /= self.weights.sum(1, keepdim=True)

    def shares(self, n: int, c: Tensor | None) -> Tensor:
        """Weights of all components of all labels, (n, max(C, 1) K); a mix of labels mixes their components."""
        return self.weights.expand(n, -1) if c is None else (c[:, :, None] * self.weights).flatten(1)

    def transport(self, noise: Tensor, c: Tensor | None) -> Tensor:
        edges = self.shares(len(noise), c).cumsum(1)
        u = torch.special.ndtr(noise[:, -1:]) * edges[:, -1:]
        k = torch.searchsorted(edges, u)[:, 0].clamp_max(edges.shape[1] - 1)
        return self.means.flatten(0, 1)[k] + (self.roots.flatten(0, 1)[k] @ noise[:, :-1, None])[:, :, 0]

    def conditional_log_prob(self, z: Tensor, c: Tensor | None) -> Tensor:
        means, roots = self.means.flatten(0, 1), self.roots.flatten(0, 1)
        u = torch.linalg.solve_triangular(roots, (z[None] - means[:, None]).transpose(1, 2), upper=False)
        each = -0.5 * (u.square() + LOG_2PI).sum(1) - roots.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
        return torch.logsumexp(each.T + self.shares(len(z), c).clamp_min(1e-30).log(), 1)


class GaussianPrior(MixturePrior):
    """Full-covariance Gaussian, one for each label: a mixture of one component."""

    def __init__(self, latent: int, contexts: int = 0):
        super().__init__(latent, contexts, components=1)


class FlowPrior(Prior):
    """A normalizing flow on top of the mixture: z = flow(mixture(noise)), on standardised latents.

    The mixture is fitted in closed form; the flow starts as the identity and learns what is left, so that with early
    stopping its held-out likelihood starts at that baseline.
    """

    def __init__(
        self, kind: str, latent: int, contexts: int = 0, layers: int = 6, hidden: int = 128, dropout: float = 0.2
    ):
        super().__init__(latent, contexts)
        self.mixture = MixturePrior(latent, contexts)
        self.noise_size = self.mixture.noise_size
        self.flow = flows.Flow(kind, latent, contexts, layers, hidden, dropout)
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def fit(self, z: Tensor, c: Tensor | None, draws: int = 1) -> None:
        StandardPrior.fit(self, z, c)
        self.centre.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp_min(1e-3))
        self.mixture.fit((z - self.centre) / self.scale, c, draws)

    def to_base(self, z: Tensor, c: Tensor | None) -> Tensor:
        """Latents (B, L) as points of the space in which the flow's mixture lives."""
        return self.flow((z - self.centre) / self.scale, self.labelled(c))[0]

    def from_base(self, u: Tensor, c: Tensor | None) -> Tensor:
        return self.flow.inverse(u, self.labelled(c))[0] * self.scale + self.centre

    def transport(self, noise: Tensor, c: Tensor | None) -> Tensor:
        return self.from_base(self.mixture.transport(noise, c), c)

    def conditional_log_prob(self, z: Tensor, c: Tensor | None) -> Tensor:
        u, ladj = self.flow((z - self.centre) / self.scale, c)
        return self.mixture.conditional_log_prob(u, c) + ladj - self.scale.log().sum()


def prior(kind: str, latent: int, contexts: int = 0, **flow_settings) -> Prior:
    """The prior called `kind`, one of PRIORS; `flow_settings` (layers, hidden, dropout) are for flows."""
    closed = {"standard": StandardPrior, "gaussian": GaussianPrior, "mixture": MixturePrior}
    if kind in closed:
        return closed[kind](latent, contexts)
    if unknown := set(flow_settings) - {"layers", "hidden", "dropout"}:
        raise UsageError(f"A flow has no setting {', '.join(sorted(unknown))}; it has layers, hidden, dropout.")
    if kind in flows.KINDS:
        return FlowPrior(kind, latent, contexts, **flow_settings)
    raise UsageError(f"There is no prior '{kind}'; known are {', '.join(PRIORS)}.")
