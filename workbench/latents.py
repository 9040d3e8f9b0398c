"""Where sounds lie: does the decoder use the latent, and along which directions do clips differ?"""

import contextlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.manifold import trustworthiness
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from workbench import files, metrics
from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.nn.losses import spectral_distance

__all__ = [
    "Chart",
    "Fidelity",
    "Usage",
    "chart",
    "codes",
    "explained",
    "fidelity",
    "fidelity_of",
    "kept",
    "near",
    "told",
    "usage",
]

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


def codes(model: Autoencoder, clips: Clips, folder: Path | None = None) -> Tensor:
    """The posterior mean of every clip, (N, L), kept in `folder` (the run's) until store or model change."""
    return kept(folder, "latents", model, clips, lambda: model.latents(clips))


def kept(
    folder: Path | None, name: str, model: Autoencoder, clips: Clips, make: Callable[[], Tensor], **asked
) -> Tensor:
    """What `make` gives, from NAME.safetensors in `folder` where that was made of the same model, clips and `asked`."""
    if folder is None:
        return make()
    path = Path(folder) / f"{name}.safetensors"
    made_of = {"data": clips.fingerprint, "clips": len(clips), "model": model.fingerprint(), **asked}
    made_of = {key: str(value) for key, value in made_of.items()}
    if path.is_file():
        with contextlib.suppress(safetensors.SafetensorError), safetensors.safe_open(path, "pt") as file:
            if file.metadata() == made_of:
                return file.get_tensor(name)
    value = make()
    part = path.with_suffix(f".{os.getpid()}.part")
    with files.room(path):
        safetensors.torch.save_file({name: value.contiguous()}, part, made_of)
        part.replace(path)
    return value


def told(model: Autoencoder, clips: Clips, n: int = 256, seed: int = 0) -> pd.DataFrame:
    """What can be told from latents: number, value, and chance, what a latent that tells nothing would get.

    A linear probe of the label and the silhouette of labels (training latents judge test latents, series by their mean);
    the rank correlation of distances between held-out latents with those of standardised descriptors; GILBO, the nats that
    a draw's sound tells of the draw, E log q(z | x) - log p(z) with x decoded from z ~ p(z), a lower bound with the
    model's own posterior (Alemi and Fischer, 2018, https://arxiv.org/abs/1802.04874); and where the true factors of the
    clips are known, as in the built-in pack, the mean mutual information gap.
    """
    fit, held = clips.split("train"), clips.split("test")
    z, seen = (v.mean(2).numpy() if v.dim() > 2 else v.numpy() for v in map(model.latents, (held, fit)))
    labels = held.index.label.to_numpy()
    shared = np.isin(labels, list(set(fit.index.label)))
    rows = []
    if len(set(fit.index.label)) > 1 and len(set(labels[shared])) > 1:
        right = metrics.linear_probe(seen, fit.index.label.to_numpy(), z[shared], labels[shared])
        rows.append(("label by a linear probe, balanced accuracy", right, 1 / len(set(labels[shared]))))
        if len(set(labels)) < len(z):
            rows.append(("silhouette of labels", metrics.silhouette(z, labels), 0.0))
    if len(z) >= 3:
        agreement = float(spearmanr(pdist(z), pdist(held.measured(fit)))[0])
        rows.append(("distances as descriptors have them, rank correlation", agreement, 0.0))
    if model.prior is not None:
        drawn, c = model.draw(n, seed=seed)
        x = model.render(drawn, c if model.context_spec else None)
        found = model.batched(lambda sound, latent: model.posterior(sound).log_prob(latent), x, drawn)
        with torch.inference_mode():
            rows.append(("GILBO, nats", float((found - model.prior.log_prob(drawn)).mean()), 0.0))
    factors = [column for column in held.index if column.startswith("factor_")]
    if factors and len(fit) > 20:
        gaps = metrics.mig(seen, fit.index[factors].to_numpy(float))
        rows.append(("mutual information gap, mean of factors", float(np.nanmean(gaps)), 0.0))
    return pd.DataFrame(rows, columns=["number", "value", "chance"])


def at_levels(model: Autoencoder, clips: Clips, decibels: float, seed: int = 0) -> Tensor:
    """The posterior mean of every clip, each at a random level of up to so many dB more or less, (N, L) or (N, L, K)"""
    gain = 10 ** (np.random.default_rng(seed).uniform(-decibels, decibels, (len(clips), 1)) / 20)
    parts = (slice(i, i + 256) for i in range(0, len(clips), 256))
    heard = (torch.from_numpy((clips.audio(part) * gain[part]).astype(np.float32))[:, None] for part in parts)
    return torch.cat([model.batched(model.encode, x) for x in heard])


def explained(
    fit: np.ndarray, target: np.ndarray, held: np.ndarray, held_target: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """R² on held-out latents (m, L) of fresh probes that tell a number from a latent: a line, a forest, a network.

    The probes see none of the training of the model whose latents they are given; the strongest counts.
    """
    probes = {
        "linear": RidgeCV(np.logspace(-3, 3, 7)),
        "forest": RandomForestRegressor(200, min_samples_leaf=3, n_jobs=2, random_state=seed),
        "network": MLPRegressor(
            hidden_layer_sizes=(64, 64), alpha=1e-2, early_stopping=True, max_iter=400, random_state=seed
        ),
    }
    return {
        name: float(make_pipeline(StandardScaler(), probe).fit(fit, target).score(held, held_target))
        for name, probe in probes.items()
    }


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
    z = torch.cat([codes(model, clips, folder), drawn]).numpy()
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
