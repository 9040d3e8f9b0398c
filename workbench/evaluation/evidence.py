"""Evidence: what metrics say of a run's draws, beside what they say of sets whose worth is known, all at one n."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from scipy.signal import butter, fftconvolve, sosfilt
from scipy.spatial.distance import pdist

from workbench import plots
from workbench.autoencoder import Autoencoder
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.evaluation import embeddings, metrics
from workbench.nn.noise import keyed_noise

__all__ = ["DAMAGES", "Damage", "Evidence", "Reference", "damage", "gather", "refusal"]

MOST, LEAST, FLOORS = 256, 20, 20  # clips of a set at most and at least; subsets of real clips behind a floor
ENOUGH = 100  # test clips; with fewer, those that chose the best weights (valid) are measured against as well
FEW = 8  # held-out clips of a label; with fewer nothing is said of it
COPIED = 0.8  # memorisation below it is suspicious
GRADED = 64  # clips that are damaged to try an embedding


def kid(real: np.ndarray, made: np.ndarray) -> float:
    """KID of points brought to unit mean square norm by the reference, as CLAP's are from the start."""
    return metrics.kid(real, made, gamma=1 / np.square(real).sum(1).mean())


def coverage(real: np.ndarray, made: np.ndarray) -> float:
    return metrics.prdc(real, made)["coverage"]


def diversity(real: np.ndarray, made: np.ndarray) -> float:
    """Effective number of different points (Vendi) over that of the reference, whose median distance is the scale."""
    scale = float(np.median(pdist(real)))
    return metrics.vendi(made, bandwidth=scale) / metrics.vendi(real, bandwidth=scale)


# the rest, for who wants to look on
OTHERS = {
    "KAD": metrics.kad,
    "precision": lambda real, made: metrics.prdc(real, made)["precision"],
    "recall": lambda real, made: metrics.prdc(real, made)["recall"],
    "density": lambda real, made: metrics.prdc(real, made)["density"],
    "mean cosine distance": lambda real, made: metrics.mean_pairwise_distance(made),
    "AUC of telling draws from clips": metrics.auc,
}
MEASURES = {"FAD": metrics.fad, "KID": kid, "coverage": coverage, "diversity": diversity}


class Reference:
    """Held-out clips that sets of n are measured against, and training clips, as points of one embedding.

    Test clips; where they are fewer than ENOUGH, validation clips too. n is at most half of the training clips and MOST.
    `folder` keeps embeddings; `source` goes to `embeddings.embed` (checkpoint, trusted).
    """

    def __init__(
        self, clips: Clips, embedding: str = "descriptors", folder: Path | None = None, seed: int = 0, **source
    ):
        self.clips, self.embedding, self.folder, self.source = clips, embedding, folder, source
        fit, held = sides(clips)
        self.n = min(len(held), len(fit) // 2, MOST)
        if self.n < LEAST:
            raise UsageError(few(clips))
        self.rng = np.random.default_rng(seed)
        self.pool = held
        count = clips.index.split.iloc[held].value_counts()
        self.sizes = " and ".join(
            f"{count[k]} {'validation' if k == 'valid' else k} clips" for k in sorted(count.index)
        )
        self.held, self.fit = np.sort(self.rng.permutation(held)[: self.n]), self.rng.permutation(fit)[: 8 * MOST]
        self.real, self.train = self.points(clips.audio(self.held)), self.points(clips.audio(self.fit))

    def points(self, x: np.ndarray) -> np.ndarray:
        try:
            return embeddings.embed(x, self.clips.rate, self.embedding, self.folder, **self.source)
        except (ValueError, EOFError):  # a kept embedding that is damaged, if it goes without
            return embeddings.embed(x, self.clips.rate, self.embedding, **self.source)

    def measure(self, made: np.ndarray) -> dict[str, float]:
        """All MEASURES of a set of points, and its memorisation."""
        near = metrics.memorisation(self.train, self.real, made)
        return {**{name: f(self.real, made) for name, f in MEASURES.items()}, "memorisation": near}


@dataclass(frozen=True)
class Evidence:
    """Metrics of sets of n clips against n held-out clips, under one embedding.

    ladder: a row for each set, from other real clips down to noise: what, FAD, KID, coverage, diversity, memorisation, n ·
    labels: for each label that has enough clips: n, FAD of draws of it, its floor (training clips of the label) and of
    the nearest other label's clips, and diversity of its draws over that of its held-out clips · numbers: five of the
    draws: number, value, low and high (95 %, by subsampling; over labels for the diversity within one), floor_low and
    floor_high (what other real clips get, 95 % of subsets), n, embedding · others: further metrics, the same columns ·
    sizes: of what stands for held-out clips
    """

    embedding: str
    n: int
    ladder: pd.DataFrame
    labels: pd.DataFrame
    numbers: pd.DataFrame
    others: pd.DataFrame
    sizes: str

    def __str__(self) -> str:
        """What was measured against what; and loudly, where draws lie too near to training clips."""
        near = self.summary()[f"memorisation-{self.embedding}"]
        text = f"Sets of {self.n}, embedding {self.embedding}. Held-out are {self.sizes}."
        if near < COPIED:
            text += (
                f" MEMORISATION: draws lie at {near:.2f} of the distance at which held-out clips lie from training clips; below "
                f"{COPIED:g} they may be copies."
            )
        return text

    def figure(self) -> go.Figure:
        """FAD of every set of the ladder, on a logarithmic scale."""
        return plots.bars(self.ladder.what, self.ladder.FAD, title=f"FAD-{self.embedding}, n = {self.n}", log=True)

    def named(self, number: str) -> str:
        """The name of a column with that of its embedding."""
        return f"{number}-{self.embedding}" if number in MEASURES or number == "memorisation" else number

    def by_label(self) -> go.Figure:
        """FAD of draws of each label, between other real clips of it and those of another label."""
        series = {
            "real clips of it (floor)": self.labels.floor,
            "draws": self.labels.draws,
            "another label": self.labels.other,
        }
        names = [f"{label} ({n})" for label, n in zip(self.labels.label, self.labels.n, strict=True)]
        return plots.dots(names, series, title=f"FAD-{self.embedding} within a label (n clips)", log=True)

    def summary(self) -> dict[str, float]:
        return dict(zip(self.numbers.number, self.numbers.value, strict=True))


def sides(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training clips, and of those that sets are measured against."""
    split = clips.index.split
    names = ["test"] if (split == "test").sum() >= ENOUGH else ["valid", "test"]
    return np.flatnonzero(split == "train"), np.flatnonzero(split.isin(names))


def few(clips: Clips) -> str:
    fit, held = map(len, sides(clips))
    return f"{held} held-out and {fit} training clips allow sets of {min(held, fit // 2)}, and metrics of sets need {LEAST} at least."


def refusal(model: Autoencoder, clips: Clips) -> str:
    """Why draws of this model cannot be measured as a set, or nothing."""
    if model.prior is None:
        return f"A '{model.family}' model has no prior over whole clips, so there are no draws to measure."
    fit, held = map(len, sides(clips))
    return few(clips) if min(held, fit // 2) < LEAST else ""


def gather(model: Autoencoder, at: Reference, seed: int = 0) -> Evidence:
    """Embed sets of n clips each, and measure them against held-out clips `at` hand, all together and by label.

    The sets: training clips (the floor: of other packs, where the split is by pack; no draws should be expected to lie
    nearer), training clips copied, reconstructions of the held-out clips, draws, draws of N(0, I) instead of the prior,
    real clips of half of the labels, the same against held-out clips of the other half (fewer of them), white noise.
    Raises UsageError where a set would be smaller than LEAST.
    """
    if why := refusal(model, at.clips):
        raise UsageError(why)
    clips, embedding, n, train = at.clips, at.embedding, at.n, at.train
    rng = copy.deepcopy(at.rng)  # the reference stays as it is: the same call gives the same floors

    def rendered(z: torch.Tensor, c: torch.Tensor | None) -> np.ndarray:
        return at.points(model.render(z, c if model.context_spec else None)[:, 0].numpy())

    x = clips.audio(at.held)
    z, c = model.draw(n, seed=seed)
    heard = model.context_of(clips, at.held)
    kept = model.batched(model.encode, torch.from_numpy(x)[:, None])
    label = clips.index.label.to_numpy()
    labels = rng.permutation(sorted(set(label[at.fit])))
    half = np.flatnonzero(np.isin(label[at.fit], labels[: max(1, len(labels) // 2)]))
    sets = {
        "training clips, copied": train[:n],
        "reconstructions": rendered(kept, heard),
        "draws": rendered(z, c),
        "draws of N(0, I) instead of the prior": rendered(keyed_noise([seed, 5], range(n), *z.shape[1:]), c),
        "real clips of half of the labels": train[half[:n]] if len(labels) > 1 and len(half) >= n else None,
        "white noise": at.points(rng.uniform(-1, 1, x.shape).astype(np.float32)),
    }
    floors = [train[rng.permutation(len(train))[:n]] for _ in range(FLOORS)]
    floor = {name: np.array([measure(at.real, part) for part in floors]) for name, measure in MEASURES.items()}
    rows = [
        {"what": "other real clips (floor)", **{name: v.mean() for name, v in floor.items()}},
        *({"what": what, **at.measure(made)} for what, made in sets.items() if made is not None),
    ]
    strangers = at.real[~np.isin(label[at.held], labels[: max(1, len(labels) // 2)])]  # of none of these labels
    if (m := min(len(half), len(strangers))) >= LEAST and len(labels) > 1:
        wrong = {name: f(strangers[:m], train[half[:m]]) for name, f in MEASURES.items()}
        rows.insert(-1, {"what": "real clips against those of other labels", **wrong, "n": m})
    rows[0]["memorisation"] = 1.0  # by definition, in the mean
    for row in rows:
        if row["what"].startswith("real clips"):
            row["memorisation"] = np.nan  # they are training clips, of which that says nothing
    within = by_label(model, at, seed, rng)
    made, numbers = sets["draws"], []

    def row(name: str, measure, floor, repeats: int) -> tuple:
        low, high = metrics.subsampled(measure, at.real, made, repeats=repeats, seed=seed)
        return (f"{name}-{embedding}", measure(at.real, made), low, high, *np.quantile(floor, [0.025, 0.975]), n)

    for name in ("FAD", "KID", "coverage") + (() if len(within) else ("diversity",)):
        numbers.append(row(name, MEASURES[name], floor[name], 50))
    if len(within):
        spread = np.quantile(np.stack(within.diversity_floors).mean(0), [0.025, 0.975])
        mean = (within.diversity.mean(), *metrics.bootstrap(within.diversity))
        numbers.append((f"diversity within labels-{embedding}", *mean, *spread, int(within.n.median())))
        within = within.drop(columns="diversity_floors")
    # its floor: some held-out clips in the place of draws, among the others
    halves = [np.split(at.real[rng.permutation(n)], [n // 2]) for _ in range(FLOORS)]
    near = [metrics.memorisation(train, *half) for half in halves]
    numbers.append(row("memorisation", lambda r, m: metrics.memorisation(train, r, m), near, 50))
    others = [row(name, f, [f(at.real, part) for part in floors], 10) for name, f in OTHERS.items()]
    columns = ["number", "value", "low", "high", "floor_low", "floor_high", "n"]
    five, more = (pd.DataFrame(v, columns=columns).assign(embedding=embedding) for v in (numbers, others))
    ladder = pd.DataFrame([{**row, "n": row.get("n", n)} for row in rows])
    return Evidence(embedding, n, ladder, within, five, more, at.sizes)


def by_label(model: Autoencoder, at: Reference, seed: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draws of each label against its held-out clips, where there are FEW of these at least and twice as many to train."""
    if not model.prior.contexts:
        return pd.DataFrame()
    label = at.clips.index.label.to_numpy()
    fit = {name: at.train[label[at.fit] == name] for name in model.labels}
    held = {name: at.pool[label[at.pool] == name] for name in model.labels}
    judged = [name for name in model.labels if len(held[name]) >= FEW and len(fit[name]) >= 2 * FEW]
    rows = []
    for name in judged:
        n = min(len(held[name]), len(fit[name]) // 2, MOST)
        real = at.points(at.clips.audio(np.sort(rng.permutation(held[name])[:n])))
        made = at.points(model.sample(n, label=name, seed=seed)[:, 0].numpy())
        floors = [fit[name][rng.permutation(len(fit[name]))[:n]] for _ in range(FLOORS)]
        others = [metrics.fad(real, fit[o][:n]) for o in judged if o != name and len(fit[o]) >= n]
        rows.append(
            {
                "label": name,
                "n": n,
                "draws": metrics.fad(real, made),
                "floor": np.mean([metrics.fad(real, f) for f in floors]),
                "other": min(others, default=np.nan),
                "diversity": diversity(real, made),
                "diversity_floors": np.array([diversity(real, f) for f in floors]),
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------- may an embedding judge?


def noisy(x: np.ndarray, rate: int, grade: int, rng: np.random.Generator) -> np.ndarray:
    """White noise of 0.02, 0.04, 0.06, ... beside full scale."""
    return x + grade * 0.02 * rng.standard_normal(x.shape)


def dull(x: np.ndarray, rate: int, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Low-passed at 4, 2, 1, ... kHz, or at so many parts of half of a rate below 16 kHz."""
    return sosfilt(butter(4, min(8000, rate / 2) / 2**grade, fs=rate, output="sos"), x)


def smeared(x: np.ndarray, rate: int, grade: int, rng: np.random.Generator) -> np.ndarray:
    """The attack spread by convolution with a burst of noise of 8, 16, 32, ... ms."""
    n = int(0.004 * rate * 2**grade)
    burst = rng.standard_normal(n) * np.hanning(n)
    spread = fftconvolve(x, burst[None], axes=1)[:, : x.shape[1]]
    return spread / np.abs(spread).max(1, keepdims=True).clip(1e-9)


DAMAGES = {"noise": noisy, "low-pass": dull, "smeared attack": smeared}


@dataclass(frozen=True)
class Damage:
    """FAD of training clips as they are (grade 0) and damaged more and more: kind, grade, FAD, and
    whether the kind's FAD grows from grade to grade."""

    embedding: str
    table: pd.DataFrame

    def figure(self) -> go.Figure:
        series = {kind: (t.grade, t.FAD) for kind, t in self.table.groupby("kind", sort=False)}
        return plots.lines(series, "grade of damage", f"FAD-{self.embedding}", log=True)

    @property
    def unheard(self) -> list[str]:
        """The kinds of damage that do not grow under the embedding from grade to grade: there it may not judge."""
        return list(dict.fromkeys(self.table.kind[~self.table.grows]))

    def __str__(self) -> str:
        if self.unheard:
            return f"FAD-{self.embedding} does NOT grow with {', '.join(self.unheard)}: do not trust it there."
        return f"FAD-{self.embedding} of damaged training clips grows with every grade of damage, as it must."


def damage(at: Reference, grades: int = 3, seed: int = 0) -> Damage:
    """Try an embedding: damage GRADED training clips in every way of DAMAGES, and measure them."""
    x = at.clips.audio(at.fit[:GRADED])
    rows = []
    for kind, make in DAMAGES.items():
        rng = np.random.default_rng(seed)
        made = [x, *(np.clip(make(x, at.clips.rate, g, rng), -1, 1) for g in range(1, grades + 1))]
        values = [metrics.fad(at.real, at.points(m.astype(np.float32))) for m in made]
        grows = bool((np.diff(values) > 0).all())
        rows += [{"kind": kind, "grade": g, "FAD": v, "grows": grows} for g, v in enumerate(values)]
    return Damage(at.embedding, pd.DataFrame(rows))
