"""Directions in which a sound can be moved: latents, principal directions, what the ear measures, the prior's base."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from workbench.autoencoder import Autoencoder
from workbench.data import Clips, descriptors
from workbench.errors import UsageError
from workbench.files import read_json, write_json
from workbench.latent import means
from workbench.nn.losses import spectral_distance
from workbench.nn.priors import FlowPrior

__all__ = ["WORDS", "Axes", "by_base", "by_ear", "by_latent", "by_principal", "measured"]

WORDS = {  # what a listener says, the descriptor that rises (or falls) with it
    "brighter": ("centroid", 1),
    "noisier": ("flatness", 1),
    "longer": ("duration", 1),
    "higher": ("pitch", 1),
    "harder attack": ("log_attack", -1),
    "louder": ("loudness", 1),
    "more bass": ("low", 1),
    "more body": ("mid", 1),
    "more treble": ("high", 1),
}
RATIOS = {"duration": 1e-2, "centroid": 1.0, "pitch": 30.0, "flatness": 1e-4}  # heard as ratios, from these floors up
REACHED = 0.8  # mean Spearman correlation below which a direction is not offered by its word
STARTS, STEPS, REACH = 50, 5, 2.0  # clips a direction is measured from, at so many places from -REACH to REACH
LEAST = 10  # starts; what was measured from fewer is not offered


@dataclass(frozen=True)
class Axes:
    """Named ways to move a latent.

    names, effects: k words and sentences · vectors: (k, L), what one unit of each adds to z, or, where `base` is set,
    to the noise that this prior carries to z · note: what is to be known of them all
    """

    names: list[str]
    effects: list[str]
    vectors: Tensor
    base: FlowPrior | None = None
    note: str = ""

    def move(self, z: Tensor, amounts: Tensor | Sequence[float], c: Tensor | None = None) -> Tensor:
        """z (n, L) moved by amounts (k,) or (n, k), in one order of the axes; no amount gives z itself, to the bit."""
        by = torch.as_tensor(amounts, dtype=z.dtype) @ self.vectors.to(z)
        if not by.any():
            return z
        with torch.inference_mode():
            return z + by if self.base is None else self.base.from_base(self.base.to_base(z, c) + by, c)


def by_latent(model: Autoencoder, clips: Clips, folder: Path | None = None, seed: int = 0) -> Axes:
    """Single latents, that first which changes sound most; a unit is the latent's standard deviation over clips."""
    z, _ = known(model, clips, folder)
    axes = Axes([f"z{i}" for i in range(z.shape[1])], [], torch.diag(z.std(0)))
    return by_change(model, axes, "order-latents", clips, folder, seed)


def by_base(model: Autoencoder, clips: Clips, folder: Path | None = None, seed: int = 0) -> Axes | None:
    """Dimensions of a flow prior's base space, in the same order and units; None for a prior without a flow."""
    if not isinstance(model.prior, FlowPrior):
        return None
    z, c = known(model, clips, folder)
    with torch.inference_mode():
        units = torch.diag(model.prior.to_base(z, c).std(0))
    axes = Axes([f"u{i}" for i in range(len(units))], [], units, model.prior)
    return by_change(model, axes, "order-base", clips, folder, seed)


def known(model: Autoencoder, clips: Clips, folder: Path | None) -> tuple[Tensor, Tensor | None]:
    """Latents of the training clips, and their labels."""
    rows = np.flatnonzero(clips.index.split == "train")
    return means.posterior_means(model, clips, folder)[rows], model.context_of(clips, rows)


def by_change(
    model: Autoencoder, axes: Axes, name: str, clips: Clips, folder: Path | None, seed: int, starts: int = 2
) -> Axes:
    """The axes ordered by the spectral distance between the sounds at -2 and at 2, mean over some training clips.

    `folder` keeps the distances under `name`.
    """

    def measure() -> Tensor:
        z, c = known(model, clips, folder)
        rows = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))[:starts]
        k = len(axes.names)
        at = torch.eye(k).repeat_interleave(len(rows), 0) * REACH
        start, context = z[rows].repeat(k, 1), None if c is None else c[rows].repeat(k, 1)
        low, high = (model.render(axes.move(start, by, context), context) for by in (-at, at))
        return spectral_distance(high, low, overlap=2).view(k, -1).mean(1)

    change = means.kept(folder, name, model, clips, measure, seed=seed)
    order = change.argsort(descending=True).tolist()
    effects = [f"spectral distance {change[i]:.2f} between -2 and 2" for i in order]
    return Axes([axes.names[i] for i in order], effects, axes.vectors[order], axes.base)


def by_principal(z: Tensor) -> Axes:
    """Principal directions of latents z (n, L), largest variance first; a unit is a standard deviation."""
    if len(z) < 3:
        raise UsageError(f"Principal directions of {len(z)} latents mean nothing; they need at least 3.")
    variance, vectors = torch.linalg.eigh(z.double().T.cov())
    variance, vectors = variance.flip(0).clamp_min(0), vectors.T.flip(0)
    share = (variance.cumsum(0) / variance.sum()).tolist()
    effects = [
        f"{v / variance.sum():.1%} of the training clips' variance, {s:.0%} with those before"
        for v, s in zip(variance, share, strict=True)
    ]
    names = [f"direction {i + 1}" for i in range(len(share))]
    return Axes(names, effects, (vectors * variance.sqrt()[:, None]).float())


# ------------------------------------------------------------------------------------------------ what the ear measures


def by_ear(model: Autoencoder, clips: Clips, folder: Path | None = None, seed: int = 0) -> Axes:
    """Directions that make a sound brighter, longer, ...: those of WORDS which were measured to do what they say.

    A direction is the gradient of a ridge regression of a descriptor on the latents of the training clips, both of
    what the decoder makes of them. It is offered where the descriptor follows it with a Spearman correlation of at
    least REACHED, mean over held-out starts; its effect tells the correlation and what else moves. `folder` keeps the
    measurement, which takes about a minute.
    """
    table = measurements(model, clips, folder, seed)
    names = [word for word, row in table.items() if row["correlation"] >= REACHED and row["starts"] >= LEAST]
    others = ", ".join(f"{word} ({row['correlation']:.2f})" for word, row in table.items() if word not in names)
    first = next(iter(table.values()))
    starts = first["starts"]
    return Axes(
        names,
        [effect(word, table[word]) for word in names],
        torch.tensor([table[w]["vector"] for w in names]).view(len(names), len(first["vector"])),
        note=f"Not offered, as the Spearman correlation over {starts} starts is below {REACHED} or the starts below {LEAST}: {others}."
        * bool(others),
    )


def measurements(model: Autoencoder, clips: Clips, folder: Path | None = None, seed: int = 0) -> dict[str, dict]:
    """For each word: its vector (L,), correlation, ratio or difference per unit, and the drift of all descriptors."""
    kept = None if folder is None else Path(folder) / "directions.json"
    made_of = [clips.fingerprint, model.fingerprint(), seed, 2]  # of the table's columns
    if kept is not None and kept.is_file():
        with contextlib.suppress(UsageError):  # a damaged one is made anew
            saved = read_json(kept)
            words = saved.get("words")
            columns = {"vector", "correlation", "starts", "per unit", "drift"}
            known = isinstance(words, dict) and list(words) == list(WORDS) and saved.get("made of") == made_of
            if known and all(isinstance(row, dict) and set(row) == columns for row in words.values()):
                return words
    rng, codes = np.random.default_rng(seed), means.posterior_means(model, clips, folder)

    def some(splits: tuple[str, ...], most: int) -> tuple[Tensor, Tensor | None]:
        rows = np.sort(rng.permutation(np.flatnonzero(clips.index.split.isin(splits)))[:most])
        return codes[rows], model.context_of(clips, rows)

    z, c = some(("train",), 1000)
    heard = hear(model, z, c)
    spread = heard.std(0) + 1e-9
    x, y = (z - z.mean(0)).double().numpy(), (heard - heard.mean(0)) / spread
    gradient = np.linalg.solve(x.T @ x + 30.0 * np.eye(x.shape[1]), x.T @ y)
    columns = [descriptors.NAMES.index(name) for name, _ in WORDS.values()]
    vectors = np.stack([sign * gradient[:, j] for j, (_, sign) in zip(columns, WORDS.values(), strict=True)])
    vectors = torch.from_numpy(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).float()
    held = ("test",) if (clips.index.split == "test").sum() >= STARTS else ("valid", "test")
    starts, context = some(held, STARTS)
    correlation, slope = measured(model, starts, context, vectors)
    words = {
        word: {
            "vector": vectors[i].tolist(),
            "correlation": float(sign * correlation[i, j]),
            "starts": len(starts),
            "per unit": float(np.exp(slope[i, j]) if name in RATIOS else slope[i, j]),
            "drift": dict(zip(descriptors.NAMES, (slope[i] / spread).round(3).tolist(), strict=True)),
        }
        for i, (j, (word, (name, sign))) in enumerate(zip(columns, WORDS.items(), strict=True))
    }
    if kept is not None:
        write_json(kept, {"made of": made_of, "words": words})
    return words


def measured(model: Autoencoder, starts: Tensor, c: Tensor | None, vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What directions (k, L) do to descriptors from starts (n, L): mean Spearman correlation and median slope, (k, D)."""
    at, order = torch.linspace(-REACH, REACH, STEPS), np.arange(STEPS) - (STEPS - 1) / 2
    correlations, slopes = [], []
    for v in vectors:
        z = (starts[:, None] + at[:, None] * v).flatten(0, 1)
        context = None if c is None else c.repeat_interleave(STEPS, 0)
        heard = hear(model, z, context).reshape(len(starts), STEPS, -1)
        rank = rankdata(heard, axis=1) - (STEPS + 1) / 2
        norm = np.sqrt((order**2).sum() * (rank**2).sum(1))
        correlations.append(np.divide(order @ rank, norm, out=np.zeros_like(norm), where=norm > 0).mean(0))
        line = np.einsum("s,nsd->nd", at.numpy() / float((at**2).sum()), heard)
        slopes.append(np.median(line, 0))
    return np.array(correlations), np.array(slopes)


def hear(model: Autoencoder, z: Tensor, c: Tensor | None) -> np.ndarray:
    """Descriptors (n, D) of what latents decode to, those of RATIOS as logarithms."""
    values = descriptors.matrix(model.render(z, c)[:, 0].numpy(), model.rate)
    for name, floor in RATIOS.items():
        j = descriptors.NAMES.index(name)
        values[:, j] = np.log(np.maximum(values[:, j], floor))
    return values


def effect(word: str, row: dict) -> str:
    """A measurement as a sentence."""
    name = WORDS[word][0]
    by = f"x {row['per unit']:.2f}" if name in RATIOS else f"{row['per unit']:+.2g} {descriptors.UNITS[name]}".strip()
    others = sorted(((abs(v), n, v) for n, v in row["drift"].items() if n != name), reverse=True)[:3]
    also = ", ".join(f"{n} {v:+.1f}" for size, n, v in others if size >= 0.05) or "nothing else"
    return f"{name} {by} per unit (Spearman {abs(row['correlation']):.2f} over {row['starts']} starts); in standard deviations also {also}"
