"""Evidence: what metrics say of a run's draws, beside what they say of sets whose worth is known, all at one n."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from workbench import embeddings, figures, metrics
from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.distributions import keyed_noise
from workbench.errors import UsageError

__all__ = ["Evidence", "gather", "refusal"]

MOST, LEAST, FLOORS = 256, 20, 20  # clips of a set at most and at least; subsets of real clips behind a floor


def kid(real: np.ndarray, made: np.ndarray) -> float:
    """KID of points brought to unit mean square norm by the reference, as CLAP's are from the start."""
    return metrics.kid(real, made, gamma=1 / np.square(real).sum(1).mean())


def coverage(real: np.ndarray, made: np.ndarray) -> float:
    return metrics.prdc(real, made)["coverage"]


MEASURES = {"FAD": metrics.fad, "KID": kid, "coverage": coverage}


@dataclass(frozen=True)
class Evidence:
    """Metrics of sets of n clips against n held-out clips, under one embedding.

    ladder: a row for each set, from other real clips down to noise: what, FAD, KID, coverage, memorisation ·
    numbers: of the draws: number, value, low and high (95 % by subsampling), floor_low and floor_high (what other real
    clips get, 95 % of subsets), n, embedding
    """

    embedding: str
    n: int
    ladder: pd.DataFrame
    numbers: pd.DataFrame

    def figure(self) -> go.Figure:
        """FAD of every set of the ladder, on a logarithmic scale."""
        fig = figures.bars(self.ladder.what, self.ladder.FAD, title=f"FAD-{self.embedding}, n = {self.n}")
        return fig.update_xaxes(type="log", rangemode="normal")

    def summary(self) -> dict[str, float]:
        return dict(zip(self.numbers.number, self.numbers.value, strict=True))


def refusal(model: Autoencoder, clips: Clips) -> str:
    """Why draws of this model cannot be measured as a set, or nothing."""
    held, fit = (int((clips.index.split.isin(names)).sum()) for names in (["valid", "test"], ["train"]))
    if model.prior is None:
        return f"A '{model.family}' model has no prior over whole clips, so there are no draws to measure."
    if (n := min(held, fit // 2)) < LEAST:
        return f"{held} held-out and {fit} training clips allow sets of {n}, and metrics of sets need {LEAST} at least."
    return ""


def gather(
    model: Autoencoder,
    clips: Clips,
    embedding: str = "descriptors",
    folder: Path | None = None,
    seed: int = 0,
    **source,
) -> Evidence:
    """Embed sets of n clips each, and measure them against held-out clips.

    n is the number of held-out clips, at most half of the training clips and MOST. The sets: training clips (the floor:
    of other packs, where the split is by pack; no draws should be expected to lie nearer), training clips copied,
    reconstructions of the held-out clips, draws, draws of N(0, I) instead of the prior, real clips of half of the labels,
    white noise. `folder` keeps embeddings; `source` goes to `embeddings.embed` (checkpoint, trusted). Raises UsageError
    where a set would be smaller than LEAST.
    """
    fit = np.flatnonzero(clips.index.split == "train")
    held = np.flatnonzero(clips.index.split.isin(["valid", "test"]))
    n = min(len(held), len(fit) // 2, MOST)
    if why := refusal(model, clips):
        raise UsageError(why)
    rng = np.random.default_rng(seed)
    held, fit = np.sort(rng.permutation(held)[:n]), rng.permutation(fit)

    def points(x: np.ndarray) -> np.ndarray:
        return embeddings.embed(x, clips.rate, embedding, folder, **source)

    def rendered(z: torch.Tensor, c: torch.Tensor | None) -> np.ndarray:
        return points(model.render(z, c if model.context_spec else None)[:, 0].numpy())

    x = clips.audio(held)
    real, train = points(x), points(clips.audio(fit[: 8 * MOST]))
    z, c = model.draw(n, seed=seed)
    heard = torch.from_numpy(clips.context(held)) if model.labels else None
    kept = model.batched(model.encode, torch.from_numpy(x)[:, None])
    labels = rng.permutation(sorted(set(clips.index.label[fit])))
    half = np.flatnonzero(clips.index.label.iloc[fit[: len(train)]].isin(labels[: max(1, len(labels) // 2)]))
    sets = {
        "training clips, copied": train[:n],
        "reconstructions": rendered(kept, heard),
        "draws": rendered(z, c),
        "draws of N(0, I) instead of the prior": rendered(keyed_noise([seed, 5], range(n), *z.shape[1:]), c),
        "real clips of half of the labels": train[half[:n]] if len(labels) > 1 and len(half) >= n else None,
        "white noise": points(rng.uniform(-1, 1, x.shape).astype(np.float32)),
    }
    floors = [train[rng.permutation(len(train))[:n]] for _ in range(FLOORS)]
    floor = {name: np.array([measure(real, part) for part in floors]) for name, measure in MEASURES.items()}
    rows = [
        {
            "what": "other real clips (floor)",
            **{name: v.mean() for name, v in floor.items()},
            "memorisation": 1.0,
        }
    ]
    for what, made in sets.items():
        if made is not None:
            near = metrics.memorisation(train, real, made)
            rows.append({"what": what, **{name: f(real, made) for name, f in MEASURES.items()}, "memorisation": near})
    made, numbers = sets["draws"], []
    for name, measure in MEASURES.items():
        low, high = metrics.subsampled(measure, real, made, repeats=50, seed=seed)
        spread = np.quantile(floor[name], [0.025, 0.975])
        numbers.append((f"{name}-{embedding}", measure(real, made), low, high, *spread))
    low, high = metrics.subsampled(lambda r, m: metrics.memorisation(train, r, m), real, made, repeats=50, seed=seed)
    numbers.append((f"memorisation-{embedding}", metrics.memorisation(train, real, made), low, high, 1.0, 1.0))
    table = pd.DataFrame(numbers, columns=["number", "value", "low", "high", "floor_low", "floor_high"])
    return Evidence(embedding, n, pd.DataFrame(rows), table.assign(n=n, embedding=embedding))
