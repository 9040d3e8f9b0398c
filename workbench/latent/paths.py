"""Paths through the latent space: between two sounds, among four, along curves, and how smoothly a path sounds.

Three strategies are those of the raw-audio VAE (Tatar et al., 2023, https://arxiv.org/abs/2305.15571), whose sounds are
series of latents; a family of single vectors takes them by a mapping, which is an adaptation and said where it is used:

    strategy     series of latents                                single vectors
    stepwise     the whole of both at one weight, pass by pass    a clip for each weight
    meso-scale   a weight for each frame, along a curve           a weight for each clip of two sequences, along a curve
    extension    frames taken `times` as densely, so that the     `times` as many points of the path, decoded and
                 sound lasts that much longer                     cross-faded
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench import plots
from workbench.autoencoder import Autoencoder
from workbench.data import Clips, audio, descriptors, synthesis
from workbench.errors import UsageError
from workbench.evaluation import metrics
from workbench.nn.flows import KINDS
from workbench.nn.noise import keyed_noise
from workbench.nn.priors import FlowPrior

__all__ = [
    "Smoothness",
    "Sounds",
    "between",
    "built_in",
    "chosen",
    "cross_faded",
    "deformed",
    "interleaved",
    "kinds",
    "later",
    "partners",
    "plane",
    "smoothness",
    "spherical",
    "straight",
    "strategies",
    "weighted",
]


# ------------------------------------------------------------------------------------------------ between two points


def straight(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a (...), b (...) and weights t (n,) -> (n, ...): a at 0, b at 1, and beyond them outside of [0, 1]"""
    return torch.lerp(a[None], b[None], t.view(-1, *[1] * a.dim()))


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The same along a great circle, while the norm goes straight from one to the other.

    Points of N(0, I) in many dimensions lie near a sphere, through which a straight line cuts (White, 2016,
    https://arxiv.org/abs/1609.04468). Two opposite points have no great circle of their own: a straight line then.
    """
    u, v = (w.flatten() / w.norm().clamp_min(1e-12) for w in (a, b))
    angle = torch.arccos((u @ v).clamp(-1, 1))
    if angle.sin() < 1e-4:
        return straight(a, b, t)
    on = (torch.sin((1 - t) * angle)[:, None] * u + torch.sin(t * angle)[:, None] * v) / angle.sin()
    return (on * straight(a.norm(), b.norm(), t)[:, None]).unflatten(1, a.shape)


def kinds(model: Autoencoder) -> tuple[str, ...]:
    """The kinds of path between two sounds that a model offers."""
    if model.prior is None:  # a series
        return ("linear",)
    return ("linear", "spherical", *(["base"] if isinstance(model.prior, FlowPrior) else []))


def between(
    model: Autoencoder, a: Tensor, b: Tensor, t: Tensor, kind: str = "linear", c: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Latents on the way from a (L,) to b (L,) at weights t (n,), (n, L), and their context (n, C).

    Arguments:
        kind: "linear", "spherical", or "base", a line in the space that the flow prior carries to latents.
        c: contexts of the two ends (2, C), mixed on the way; the flow is asked with them, the decoder where it is conditional.
    """
    if kind not in kinds(model):
        raise UsageError(
            f"A '{model.family}' model with this prior has no path '{kind}'; it has {', '.join(kinds(model))}"
            + ("" if kind != "base" else ": the base space is that of a flow prior (" + ", ".join(KINDS) + ")")
            + "."
        )
    mixed = None if c is None else straight(c[0], c[1], t)
    with torch.inference_mode():
        if kind == "base":
            ends = model.prior.to_base(torch.stack([a, b]), c if model.prior.contexts else None)
            return model.prior.from_base(straight(*ends, t), mixed if model.prior.contexts else None), mixed
        return (spherical if kind == "spherical" else straight)(a, b, t), mixed


def plane(corners: Tensor, n: int) -> Tensor:
    """Mixes of four points (4, ...): upper left, upper right, lower left, lower right -> (n, n, ...), row by row"""
    if len(corners) != 4 or n < 2:
        raise UsageError(
            f"A plane of {n} by {n} between {len(corners)} sounds was asked; it takes 4 sounds, and 2 by 2 at least."
        )
    t = torch.linspace(0, 1, n)
    left, right = straight(corners[0], corners[2], t), straight(corners[1], corners[3], t)
    return torch.stack([straight(a, b, t) for a, b in zip(left, right, strict=True)])


# ------------------------------------------------------------------------------------------- sounds to begin with


@dataclass(frozen=True)
class Sounds:
    """Sounds (n, 1, T) with their labels' context (n, C), None for a store without labels, and names."""

    x: Tensor
    c: Tensor | None
    names: list[str]


def chosen(model: Autoencoder, clips: Clips, wanted: Sequence[str], n: int = 0, seed: int = 0) -> Sounds:
    """A sound for each word: a sound file, a label of the clips (one of its held-out clips), or part of a clip's name.

    Where words are fewer than n, held-out clips of as many labels as there can be make up for it. A file is cut to the model's length at its first
    sound; its label is not known, so its context is that of all labels alike.
    """
    held, rng = clips.split("test"), np.random.default_rng(seed)
    found = []

    def known(part: Clips, row: int) -> Tensor | None:
        return model.context_of(part, [row])[0] if model.labels else None

    if n and len(wanted) > n:
        raise UsageError(f"{len(wanted)} sounds were asked for; up to {n} are taken here.")
    for word in wanted:
        file = Path(word).expanduser()
        if file.is_absolute() and not file.is_file():
            raise UsageError(f"There is no file {word}; give a sound file, a label, or part of a clip's name.")
        if file.is_file():
            try:
                sound = audio.shot(*audio.read(file), model.length, model.rate).x
            except audio.AudioError as error:
                raise UsageError(f"{word} cannot be taken in: {error}.") from None
            found.append((sound, any_label(model, 1)[0] if model.labels else None, file.stem))
            continue
        labelled = word in set(held.index.label)
        part = held if labelled else clips
        row = int(rng.choice(part.named("", word) if labelled else part.named(word)))
        found.append((part.audio([row])[0], known(part, row), part.index.name.iloc[row]))
    for row in held.some(n, seed)[: max(0, n - len(wanted))]:
        label, name = held.index.label.iloc[row], held.index.name.iloc[row]
        found.append((held.audio([row])[0], known(held, row), name if name.startswith(label) else f"{label} {name}"))
    x, c, names = zip(*found, strict=True)
    c = torch.stack(c) if model.labels else None
    return Sounds(torch.from_numpy(np.stack(x))[:, None], c, list(names))


def any_label(model: Autoencoder, n: int) -> Tensor:
    """n rows of the context of all labels alike, of a sound of which nothing is known"""
    return model.wide(torch.full((n, len(model.labels)), 1 / len(model.labels)))


def partners(model: Autoencoder, clips: Clips, sounds: Sounds, n: int, seed: int = 0) -> Sounds:
    """Two sequences of n sounds: the first two of `sounds`, each followed by held-out clips of its label (any, where unknown)."""
    held, rng, parts = clips.split("test"), np.random.default_rng(seed), []
    for i in (0, 1):
        known = sounds.c is not None and float(sounds.c[i, : len(clips.labels)].max()) == 1
        alike = np.flatnonzero(held.index.label == clips.labels[int(sounds.c[i].argmax())]) if known else []
        rows = rng.choice(alike if len(alike) else len(held), n - 1)
        more = torch.from_numpy(held.audio(rows))[:, None]
        c = None if sounds.c is None else torch.cat([sounds.c[i : i + 1], model.context_of(held, rows)])
        parts.append((torch.cat([sounds.x[i : i + 1], more]), c, [sounds.names[i], *held.index.name.iloc[rows]]))
    (x, c, names), (y, d, more) = parts
    return Sounds(torch.cat([x, y]), None if c is None else torch.cat([c, d]), names + more)


def built_in(model: Autoencoder, n: int, seed: int = 0) -> Sounds:
    """n sounds of the built-in pack, of as many kinds as there can be, whatever the model was trained on"""
    every = synthesis.keys(per_class=1)
    order = np.random.default_rng(seed).permutation(len(every))
    kinds = {every[i].label: every[i] for i in order}
    picked = list(kinds.values())[:n]
    x = [
        audio.shot(
            synthesis.make(key, seed=seed + 1, rate=model.rate)[0][:, None], model.rate, model.length, model.rate
        ).x
        for key in picked
    ]
    c = any_label(model, len(picked)) if model.labels else None
    return Sounds(torch.from_numpy(np.stack(x))[:, None], c, [synthesis.name(key) for key in picked])


# ------------------------------------------------------------------------------------------- sounds along a path


def weighted(model: Autoencoder, a: Tensor, b: Tensor, t: Tensor, seed: int = 0) -> Tensor:
    """Stepwise and meso-scale for series: sounds a and b (n, 1, T), a weight for each or for each frame, t (n,) or (n, N).

    As the authors do it, the posteriors' means and logarithms of variances are mixed, and a latent is drawn from the mix.
    Returns latents (n, L, N).
    """

    def mixed(x: Tensor, y: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        return model.posterior(x).interpolate(model.posterior(y), w).sample(noise)

    shape = model.batched(model.encode, a[:1]).shape[1:]
    return model.batched(mixed, a, b, t.view(len(t), 1, -1), keyed_noise([seed, 6], range(len(t)), *shape))


def later(model: Autoencoder, x: Tensor, times: int) -> Tensor:
    """A clip x (1, 1, T) that begins 0, 1 / times, 2 / times, ... of a frame later, (times, 1, T)"""
    x = F.pad(x, (0, model.length))
    return torch.cat([x[:, :, (k := round(i * model.hop / times)) : k + model.length] for i in range(times)])


def interleaved(z: Tensor) -> Tensor:
    """Extension: series of `later` clips (times, L, N) as one with all their frames in the order of time, (1, L, N times)"""
    return z.permute(1, 2, 0).flatten(1)[None]


def cross_faded(x: Tensor, overlap: float = 0.5) -> Tensor:
    """Clips (n, 1, T) as one sound (T',): each begins while the one before it fades out, for this share of its length."""
    n, length = len(x), x.shape[2]
    hop = max(round((1 - overlap) * length), 1)
    window = torch.hann_window(2 * (length - hop))
    fade = torch.ones(length)
    fade[: length - hop], fade[hop:] = window[: length - hop], window[length - hop :]
    out = torch.zeros((n - 1) * hop + length)
    for i, clip in enumerate(x[:, 0]):
        out[i * hop : i * hop + length] += clip * fade
    return out


def strategies(
    model: Autoencoder, sounds: Sounds, steps: int = 6, times: int = 4, seed: int = 0
) -> dict[str, np.ndarray]:
    """The three strategies between two sequences of clips, and for series the morph along time: {name: sound (T',)}.

    The first half of `sounds` is one sequence, the second half the other. See the table at the top for what a strategy
    means for single vectors.
    """
    n = len(sounds.x) // 2
    if n < 1 or len(sounds.x) != 2 * n:
        raise UsageError(f"{len(sounds.x)} sounds came; strategies take as many of one kind as of the other.")
    a, b = sounds.x[:n], sounds.x[n:]
    c = (sounds.c[:n], sounds.c[n:]) if model.context_spec else None
    t = torch.linspace(0, 1, steps)

    def heard(z: Tensor, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        rows = torch.zeros(len(z), dtype=torch.long) if rows is None else rows
        return model.render(z, None if c is None else torch.lerp(c[0][rows], c[1][rows], weights[:, None]))

    def row(x: Tensor) -> np.ndarray:
        return x.flatten().numpy()

    za, zb = (model.batched(model.encode, x) for x in (a, b))
    if za.dim() == 2:
        curve = 0.5 + 0.75 * torch.sin(torch.linspace(0, 2 * torch.pi, n))
        path = torch.linspace(-0.25, 1.25, steps * times)
        return {
            "stepwise": row(heard(straight(za[0], zb[0], t), t)),
            "meso-scale": row(heard(torch.lerp(za, zb, curve[:, None]), curve, torch.arange(n))),
            "extension": cross_faded(heard(straight(za[0], zb[0], path), path), 0.75).numpy(),
        }
    frames = za.shape[2]
    curve = torch.sin(torch.linspace(0, 6 * torch.pi, n * frames)).view(
        n, frames
    )  # -1 to 1, as the authors': it goes beyond
    slow = torch.sin(torch.linspace(0, 2 * torch.pi, times * frames)).view(frames, times).T
    late = weighted(model, later(model, a[:1], times), later(model, b[:1], times), slow, seed)
    ramp = torch.linspace(0, 1, frames)[None]
    first = [x[:1].expand(steps, -1, -1) for x in (a, b)]
    return {
        "stepwise": row(heard(weighted(model, *first, t, seed), t)),
        "meso-scale": row(heard(weighted(model, a, b, curve, seed), curve.mean(1), torch.arange(n))),
        "extension": row(heard(interleaved(late), torch.zeros(1))),
        "morph along time": row(heard(weighted(model, a[:1], b[:1], ramp, seed), torch.tensor([0.5]))),
    }


def deformed(
    z: Tensor,
    scale: float = 1.0,
    bias: float = 0.0,
    reverse: bool = False,
    random: float = 0.0,
    curves: Mapping[int, Sequence[float]] | None = None,
    dimensions: Sequence[int] | None = None,
    seed: int = 0,
) -> Tensor:
    """A series (L, N) with some of its dimensions (all for None) scaled about their mean, moved, reversed in time, blurred
    by noise of `random` times their deviation; and dimensions replaced by curves, {dimension: values, stretched to N}."""
    chosen = list(range(len(z)) if dimensions is None else dimensions)
    if wrong := [d for d in [*chosen, *(curves or {})] if not 0 <= d < len(z)]:
        raise UsageError(f"Dimension {wrong[0]} was asked of a series that has {len(z)}, numbered from 0.")
    out, part = z.clone(), z[chosen]
    mean, deviation = part.mean(1, keepdim=True), part.std(1, keepdim=True)
    part = part + (scale - 1) * (part - mean) + bias + random * deviation * keyed_noise([seed, 8], chosen, z.shape[1])
    out[chosen] = part.flip(1) if reverse else part
    for d, curve in (curves or {}).items():
        y = np.asarray(curve, float)
        out[d] = torch.from_numpy(np.interp(np.linspace(0, 1, z.shape[1]), np.linspace(0, 1, len(y)), y))
    return out


# ------------------------------------------------------------------------------------------- how smooth is a path?


@dataclass(frozen=True)
class Smoothness:
    """Perceptual path length of kinds of path between pairs of sounds: table with kind, length, low and high (95 %, by
    bootstrap over pairs) and pairs."""

    table: pd.DataFrame

    def figure(self) -> go.Figure:
        t = self.table
        spread = {"path length": t[["low", "high"]].to_numpy()}
        return plots.dots(t.kind, {"path length": t.length}, spread, "perceptual path length (squared deviations)")


def smoothness(model: Autoencoder, clips: Clips, pairs: int = 32, steps: int = 16, seed: int = 0) -> Smoothness:
    r"""How far the ear travels from one held-out clip to another, for each kind of path that the model offers.

    The perceptual path length :math:`E[\sum_k \|d_{k+1} - d_k\|^2 / \epsilon]` (Karras et al., 2019,
    https://arxiv.org/abs/1812.04948), in steps of :math:`\epsilon` = 1 / steps, as descriptors have jumps; :math:`d` are the
    descriptors in standard deviations of the training clips. It stands beside that of a cross-fade, which mixes the two
    decoded sounds and needs no latent, and beside the least there can be: straight and evenly from end to end.
    """
    held, fit = clips.split("test"), clips.split("train").index[list(descriptors.NAMES)]
    if len(held) < 2 or pairs < 2 or steps < 2:
        raise UsageError(
            f"{pairs} pairs of {len(held)} held-out clips in {steps} steps were asked; it takes 2 of each at least."
        )
    spread, rng = fit.std().to_numpy().clip(1e-9), np.random.default_rng(seed)
    rows = np.array([rng.choice(len(held), 2, replace=False) for _ in range(pairs)])
    z = model.batched(model.encode, torch.from_numpy(held.audio(rows.ravel()))[:, None]).unflatten(0, (pairs, 2))
    c = None if not model.labels else model.context_of(held, rows.ravel()).unflatten(0, (pairs, 2))
    t = torch.linspace(0, 1, steps + 1)

    def lengths(way: Callable[[int], Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Of each pair: the path's length, and the least between its ends."""
        d = np.stack([descriptors.matrix(way(i)[:, 0].numpy(), model.rate) / spread for i in range(pairs)])
        return np.square(np.diff(d, axis=1)).sum((1, 2)) * steps, np.square(d[:, -1] - d[:, 0]).sum(1)

    def decoded(kind: str, i: int, at: Tensor = t) -> Tensor:
        points, mixed = between(model, *z[i], at, kind, None if c is None else c[i])
        return model.render(points, mixed if model.context_spec else None)

    ways = {kind: lambda i, kind=kind: decoded(kind, i) for kind in kinds(model)}
    ways["cross-fade"] = lambda i: straight(*decoded("linear", i, t[[0, -1]]), t)
    found = {kind: lengths(way) for kind, way in ways.items()}
    found["the least"] = (found["linear"][1], None)
    table = [(kind, v.mean(), *metrics.bootstrap(v), pairs) for kind, (v, _) in found.items()]
    return Smoothness(pd.DataFrame(table, columns=["kind", "length", "low", "high", "pairs"]))
