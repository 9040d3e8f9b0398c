r"""Priors p(z) of a latent z, from poor to rich.

Training pulls each q(z | x) towards a standard normal, but the *aggregate posterior*
:math:`\frac{1}{N} \sum_i q(z | x_i)` never gets there: draws from N(0, I) fall into holes that the decoder has never
seen. The cure is to fit a prior to the aggregate posterior once the encoder is frozen (two-stage VAE: Dai and Wipf,
2019, https://arxiv.org/abs/1903.05789). From poor to rich: standard normal, full-covariance Gaussian, Gaussian mixture,
normalizing flow. Each may know the label: p(z | c), and then :math:`p(z) = \sum_c p(c) p(z | c)`.
"""

import abc

import numpy as np
import torch
from torch import Tensor, nn

from workbench.errors import UsageError
from workbench.nn import flows
from workbench.nn.noise import keyed_noise
from workbench.nn.posteriors import LOG_2PI, standard_log_prob

__all__ = ["PRIORS", "FlowPrior", "GaussianPrior", "MixturePrior", "Prior", "StandardPrior", "prior"]

PRIORS = ("standard", "gaussian", "mixture", *flows.KINDS)


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
