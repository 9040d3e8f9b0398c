"""Runs beside one another: arms of a comparison, paired differences over seeds and folds, arms at one divergence."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from workbench.errors import UsageError
from workbench.evaluation.rows import ENCODER, Rows, gather, of, trained

__all__ = [
    "BETTER",
    "Comparison",
    "Difference",
    "Rows",
    "compare",
    "frame",
    "gather",
    "matched",
    "paired",
    "trained",
]

# which way a number is better, by its name before the embedding; of others no best is marked
BETTER = {
    "FAD": -1,
    "KID": -1,
    "coverage": 1,
    "diversity": 1,
    "diversity within labels": 1,
    "distance": -1,
    "reconstruction distance": -1,
    "mmd": -1,
    "log_likelihood": 1,
    "label accuracy ratio": 1,
    "descriptor distance": -1,
}
LEVEL, POWER = 0.95, 0.8


# ---------------------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Difference:
    """The mean of n paired differences, its interval, and the smallest difference that n such pairs would probably find.

    detectable: the true difference that a two-sided test at 5 % finds in 80 % of such experiments.
    """

    mean: float
    low: float
    high: float
    n: int
    detectable: float


def paired(differences: Sequence[float], level: float = LEVEL) -> Difference:
    """Student's t over independent pairs; with fewer than two there is no interval."""
    d = np.asarray(differences, float)
    d = d[np.isfinite(d)]
    if (n := len(d)) < 2:
        return Difference(float(d.mean()) if n else np.nan, np.nan, np.nan, n, np.nan)
    error = d.std(ddof=1) / np.sqrt(n)
    half = stats.t.ppf((1 + level) / 2, n - 1) * error
    return Difference(float(d.mean()), float(d.mean() - half), float(d.mean() + half), n, shift(n) * float(error))


@functools.cache
def shift(n: int) -> float:
    """The difference, in standard errors, that a paired t test of n pairs at 5 % finds with POWER (noncentral t)."""
    sizes, edge = np.linspace(0, 25, 5001), stats.t.ppf((1 + LEVEL) / 2, n - 1)
    power = stats.nct.sf(edge, n - 1, sizes) + stats.nct.cdf(-edge, n - 1, sizes)
    return float(sizes[np.argmax(power >= POWER)])


def frame(differences: Mapping[str, Difference]) -> pd.DataFrame:
    """Differences by arm as a table: difference, low, high, pairs, detectable."""
    rows = {a: (d.mean, d.low, d.high, d.n, d.detectable) for a, d in differences.items()}
    return pd.DataFrame.from_dict(rows, "index", columns=["difference", "low", "high", "pairs", "detectable"])


def cells(table: pd.DataFrame, arm: Sequence[str], number: str) -> pd.DataFrame:
    """The number by block (rows) and arm (columns). Stores are the blocks where there are three at least, as seeds within
    one share its clips; else each seed of each store is one."""
    block = ["store"] if table.store.nunique() >= 3 else ["store", "seed"]
    wide = table.assign(**{k: table[k].map(str) for k in arm}).pivot_table(number, block, list(arm), aggfunc="mean")
    wide.columns = [name_of(arm, c if isinstance(c, tuple) else (c,)) for c in wide.columns]
    return wide


def named(table: pd.DataFrame, arm: Sequence[str]) -> pd.DataFrame:
    return table.assign(arm=[name_of(arm, map(str, v)) for v in table[list(arm)].itertuples(index=False)])


def name_of(arm: Sequence[str], values: Sequence) -> str:
    return ", ".join(f"{k} {v}" for k, v in zip(arm, values, strict=True))


@dataclass(frozen=True)
class Comparison:
    """Arms against a baseline.

    table: a row for each arm and number: arm, number, mean, std (over all its runs), n runs, difference from the
    baseline over shared blocks with low and high, pairs, detectable, best (better than every other arm, by intervals at 95 %
    together) · baseline: the arm's name · cost: parameters and minutes of training by arm · left_out: sentences
    """

    table: pd.DataFrame
    baseline: str
    cost: pd.DataFrame
    left_out: tuple[str, ...]

    def wide(self) -> pd.DataFrame:
        """Arms down, numbers across: mean ± std, best marked with a star; parameters and training minutes beside."""
        t = self.table
        text = [f"{m:.3g} ± {s:.2g}" if n > 1 else f"{m:.3g}" for m, s, n in zip(t["mean"], t["std"], t.n, strict=True)]
        t = t.assign(text=[a + " *" * b for a, b in zip(text, t.best, strict=True)])
        order = list(dict.fromkeys(t.arm))
        return (
            t.pivot(index="arm", columns="number", values="text")
            .loc[order, list(dict.fromkeys(t.number))]
            .join(self.cost)
        )


def compare(rows: Rows, numbers: Sequence[str] = (), baseline: str = "", arm: Sequence[str] = ()) -> Comparison:
    """Means over seeds and folds of each arm, and paired differences from a baseline.

    Arguments:
        numbers: names, with or without embedding; all that have a better direction by default. baseline: the name of an
        arm, by default the first. arm: the settings that tell arms apart, by default all that differ.
    """
    arm = tuple(arm or rows.settings or ("run",))
    if missing := [name for name in (*numbers, *arm) if not any(of(c, [name]) for c in rows.table)]:
        raise UsageError(f"No run has {', '.join(missing)}; there are {', '.join([*rows.numbers, *rows.settings])}.")
    wanted = [c for c in rows.numbers if of(c, numbers or BETTER)]
    table = named(rows.table, arm)
    arms = list(dict.fromkeys(table.arm))
    baseline = baseline or arms[0]
    if baseline not in arms:
        raise UsageError(f"There is no arm '{baseline}' to compare with; there are: {'; '.join(arms)}.")
    found, left_out = [], []
    for number in wanted:
        name = of(number, (*BETTER, *ENCODER)) or number
        wide = cells(table, arm, number)[[a for a in arms if table[number][table.arm == a].notna().any()]]
        pairs = encoders(table) if name in ENCODER else None
        if pairs is not None and not any(baseline in p and len(p) > 1 for p in pairs):
            if numbers:
                raise UsageError(
                    f"{number} is of one encoder's latents, and no other arm shares the encoder of '{baseline}': not compared."
                )
            left_out.append(f"{number} is left out: it is of one encoder's latents, and no two arms share one.")
            continue
        for a in wide:
            values = table[number][table.arm == a].dropna()
            shared = pairs is None or any({a, baseline} <= p for p in pairs)
            d = paired(wide[a] - wide[baseline] if shared and a != baseline and baseline in wide else [])
            found.append(
                {
                    "arm": a,
                    "number": number,
                    "mean": values.mean(),
                    "std": values.std(),
                    "n": len(values),
                    **{"difference": d.mean, "low": d.low, "high": d.high, "pairs": d.n, "detectable": d.detectable},
                    "best": pairs is None and best(wide, a, BETTER.get(name, 0)),
                }
            )
    if rows.table.store.nunique() >= 3:
        left_out.append(
            f"Intervals are over {rows.table.store.nunique()} stores (folds); seeds of one are averaged first."
        )
    beside = [c for c in ("parameters", "minutes", "prior parameters", "prior seconds") if c in table]
    cost = table.groupby("arm", sort=False)[beside].mean().dropna(axis=1, how="all").map("{:,.4g}".format)
    return Comparison(pd.DataFrame(found), baseline, cost, tuple(left_out))


def encoders(table: pd.DataFrame) -> set[frozenset[str]]:
    """Which arms stand on the same encoder, run by run."""
    return {frozenset(part.arm) for _, part in table.groupby("run")}


def best(wide: pd.DataFrame, arm: str, direction: int) -> bool:
    """Is the arm better than each other one, by paired intervals that hold together at 95 % (Bonferroni)?"""
    others = [a for a in wide if a != arm]
    level = 1 - (1 - LEVEL) / max(1, len(others))
    lows = [paired(direction * (wide[arm] - wide[a]), level).low for a in others]
    return bool(direction and others and all(low > 0 for low in lows))


def matched(
    table: pd.DataFrame,
    arm: Sequence[str],
    number: str,
    along: str = "beta",
    across: str = "nats",
    at: float | None = None,
) -> tuple[pd.DataFrame, float]:
    """A number by block (rows) and arm (columns) at one divergence, by a line between the runs of neighbouring betas.

    Arms differ in how many nats they spend at the same beta; compared there, one would see who spends more. `at` is by
    default the middle of the range of nats that every arm covers in every store and seed; outside it nothing is guessed.
    """
    if along not in table:
        raise UsageError(
            f"The runs do not differ in {along}, so there are no curves along it; they have {', '.join(table.columns)}."
        )
    if number in ENCODER and len(encoders(named(table, arm))) > 1:
        raise UsageError(
            f"{number} is of one encoder's latents, and these arms stand on different encoders: not compared."
        )
    curves = {
        key: part.groupby(along)[[across, number]].mean().sort_values(across)
        for key, part in table.groupby(["store", "seed", *arm], sort=False)
    }
    low, high = (f(c[across].iloc[i] for c in curves.values()) for f, i in ((max, 0), (min, -1)))
    if low > high:
        raise UsageError(
            f"The arms share no {across}: one begins at {low:.4g} where another has ended at {high:.4g}; take more {along}s."
        )
    at = (low + high) / 2 if at is None else at
    if not low <= at <= high:
        raise UsageError(f"{at:.4g} {across} were asked, and all arms cover {low:.4g} to {high:.4g}.")
    rows = [
        dict(zip(("store", "seed", *arm), key, strict=True)) | {number: np.interp(at, c[across], c[number])}
        for key, c in curves.items()
    ]
    return cells(pd.DataFrame(rows), arm, number), float(at)
