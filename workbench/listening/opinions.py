"""What votes say: mean opinions with intervals, paired differences, screening; how many listeners, and simulated ones.

The truth of a system is the vote that its fixed clips would get on average from all listeners there are. Votes of one
listener are alike, so the listener is the unit: with m_ls the mean vote of listener l for the clips of system s, the
mean opinion score is MOS_s = mean over l of m_ls, and both intervals are made of the m_ls, of which n are independent:

    t           MOS_s +- t(n - 1) sd(m_ls) / sqrt(n)
    bootstrap   listeners are drawn with replacement, each with all votes. The plain percentiles are too narrow for few
                listeners (by sqrt((n - 1) / n), and for want of t), so their levels are widened to
                Phi(+-sqrt(n / (n - 1)) t(n - 1)): the expanded percentiles of Hesterberg 2015,
                https://doi.org/10.1080/00031305.2015.1089789

Systems are compared within the listener, by t of m_la - m_lb. What is said of other clips of a system than those that
were played is more uncertain than either interval.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from workbench import listening, plots
from workbench.errors import UsageError
from workbench.plots import style

__all__ = [
    "SPREADS",
    "Analysis",
    "Simulated",
    "analyse",
    "assumed",
    "bootstrap_interval",
    "detectable",
    "needed",
    "plan",
    "plan_figure",
    "power",
    "progress",
    "screened",
    "simulate",
    "t_interval",
]

DRAWS = 4000  # of the bootstrap
FEW = 12  # listeners; with fewer the bootstrap covers less than it says (benchmarks/listening.py)
WORDS = ("Bad", "Poor", "Fair", "Good", "Excellent")
# standard deviations of what is assumed before there is a pilot: (of a vote about its listener's mean for the system,
# of listeners' tastes for one system), in points of the scale
SPREADS = {"acr": (0.8, 0.35), "mushra": (16.0, 7.0)}


# ----------------------------------------------------------------------------------------------------------- intervals


def t_interval(means: np.ndarray) -> np.ndarray:
    """95 % intervals of the expectation from listeners' means (..., n): (..., 2)."""
    n = _enough(means)
    half = stats.t.ppf(0.975, n - 1) * means.std(-1, ddof=1) / np.sqrt(n)
    return means.mean(-1)[..., None] + half[..., None] * np.array([-1, 1])


def bootstrap_interval(means: np.ndarray, seed: int = 0) -> np.ndarray:
    """95 % intervals of the expectation by resampling listeners, (..., n) -> (..., 2): expanded percentiles."""
    n = _enough(means)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS) / n
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    return np.moveaxis(np.quantile(means @ weights.T, [tail, 1 - tail], axis=-1), 0, -1)


def _enough(means: np.ndarray) -> int:
    if (n := means.shape[-1]) < 2:
        raise UsageError(
            f"{n} listener{' has' if n == 1 else 's have'} rated everything, and an interval needs 2 at least: invite more."
        )
    return n


# ------------------------------------------------------------------------------------------------------------ analysis


@dataclass(frozen=True)
class Analysis:
    """What the votes of a test say, with every listener who has finished, and without those whom screening leaves out.

    mos: a row for each group ("all", "screened") and system: mos, t_low, t_high, bootstrap_low, bootstrap_high,
    listeners · differences: a row for each group and pair: difference (first - second), low, high, sd (over listeners,
    which `plan` takes), p, p_holm (Holm's, over the pairs) · distribution: of all votes, a row for each system and a
    column for each score or band of 20 · votes: each single one, with `finished` and `kept` · dropped: by screening
    """

    kind: str
    rule: str
    mos: pd.DataFrame
    differences: pd.DataFrame
    distribution: pd.DataFrame
    votes: pd.DataFrame
    finished: int
    dropped: int
    unfinished: int

    def figure(self, group: str = "all") -> go.Figure:
        """MOS of every system with a 95 % interval: the bootstrap's, of fewer than FEW listeners Student's."""
        rows = self.mos[self.mos.group == group]
        if not len(rows):
            raise UsageError(
                f"There are no results of the group '{group}'; there are {', '.join(self.mos.group.unique())}."
            )
        by = "t" if rows.listeners.iloc[0] < FEW else "bootstrap"
        ends = rows[[f"{by}_low", f"{by}_high"]].to_numpy()
        kind = listening.KINDS[self.kind]
        title = f"{kind.name.upper()}, {group}: {rows.listeners.iloc[0]} listeners, 95 % intervals"
        fig = plots.bars(rows.system, rows.mos, ends, title, "mean opinion score")
        return fig.update_xaxes(range=[kind.low if kind.low else 0, kind.high], rangemode="normal")

    def spread_figure(self) -> go.Figure:
        """How often each vote was given."""
        return plots.counts(self.distribution, "distribution of votes").update_xaxes(title="votes")

    def summary(self) -> str:
        """How many listeners, and what screening did, in sentences."""
        out = f"{self.dropped} of them left out by screening, which was settled before the first vote: {self.rule}"
        left = self.finished - self.dropped
        if left < 2:
            out += f" Only {left} remained, so there are no results without those left out."
        if self.finished < FEW:
            out += f" With fewer than {FEW} listeners intervals are somewhat too narrow near the ends of the scale."
        return f"{self.finished} listeners have rated everything, {self.unfinished} have not and do not count; {out}"

    def write(self, folder: Path) -> None:
        """Write votes.csv, mos.csv and differences.csv."""
        for name in ("votes", "mos", "differences"):
            getattr(self, name).to_csv(Path(folder) / f"{name}.csv", index=False)


def progress(folder) -> str:
    """Why there is nothing to analyse yet, or nothing."""
    votes = listening.Test(folder).votes()
    began, done = votes.listener.nunique(), votes[votes.finished].listener.nunique()
    if not began:
        return "There are no votes yet."
    return f"{began} listeners began and {done} rated everything; an interval needs 2." if done < 2 else ""


def analyse(folder) -> Analysis:
    """The analysis of a test's votes; UsageError where fewer than two listeners have rated everything."""
    test = listening.Test(folder)
    votes, names, rule = test.votes(), test.record["systems"], test.record["screening"]
    done = votes[votes.finished]
    listeners = np.sort(done.listener.unique())
    wide = done.sort_values(["listener", "clip"]).pivot(index="listener", columns=["system", "clip"], values="score")
    scores = np.stack([wide[name].to_numpy(float) for name in names], 1) if len(done) else np.zeros((0, len(names), 1))
    _enough(scores.mean(2).T)
    out = screened(test.kind.name, scores, names, rule)
    groups = {"all": scores, "screened": scores[~out]}
    tables = [_tables(group, s.mean(2).T, names, test.record["seed"]) for group, s in groups.items() if len(s) > 1]
    mos, differences = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    return Analysis(
        test.kind.name,
        rule["rule"],
        mos,
        differences,
        _distribution(test.kind, scores, names),
        votes.assign(kept=votes.finished & ~votes.listener.isin(listeners[out])),
        len(listeners),
        int(out.sum()),
        votes.listener.nunique() - len(listeners),
    )


def screened(kind: str, scores: np.ndarray, names: list[str], rule: dict) -> np.ndarray:
    """Which listeners the rule of the test leaves out, (n,) of scores (n, systems, clips)."""
    real = scores[:, names.index(listening.REAL)]
    if kind == "mushra":
        return (real < rule["least"]).mean(1) > rule["share"]
    low = scores[:, names.index(listening.anchor(3500))]
    return (real.mean(1) < low.mean(1)) | (np.ptp(scores, axis=(1, 2)) == 0)


def _tables(group: str, means: np.ndarray, names: list[str], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """MOS and differences of listeners' means (systems, n)."""
    n, t, boot = means.shape[1], t_interval(means), bootstrap_interval(means, seed)
    columns = dict(t_low=t[:, 0], t_high=t[:, 1], bootstrap_low=boot[:, 0], bootstrap_high=boot[:, 1], listeners=n)
    pairs = list(itertools.combinations(range(len(names)), 2))
    d = np.stack([means[a] - means[b] for a, b in pairs])
    low, high = t_interval(d).T
    sd = d.std(1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.nan_to_num(2 * stats.t.sf(np.abs(d.mean(1)) / (sd / np.sqrt(n)), n - 1), nan=1.0)
    rank = np.argsort(p, kind="stable")
    holm = np.empty_like(p)
    holm[rank] = np.minimum(np.maximum.accumulate(p[rank] * np.arange(len(p), 0, -1)), 1)
    first, second = ([names[pair[k]] for pair in pairs] for k in (0, 1))
    compared = dict(first=first, second=second, difference=d.mean(1), low=low, high=high, sd=sd, p=p, p_holm=holm)
    return (
        pd.DataFrame(dict(group=group, system=names, mos=means.mean(1)) | columns),
        pd.DataFrame(dict(group=group) | compared | dict(listeners=n)),
    )


def _distribution(kind: listening.Kind, scores: np.ndarray, names: list[str]) -> pd.DataFrame:
    places = scores - kind.low if kind.name == "acr" else np.minimum(scores // 20, 4)
    counts = [np.bincount(places[:, k].astype(int).ravel(), minlength=5) for k in range(len(names))]
    words = [f"{i + 1} {word}" if kind.name == "acr" else word for i, word in enumerate(WORDS)]
    return pd.DataFrame(counts, index=names, columns=words)


# ------------------------------------------------------------------------------------------------------------ planning


def assumed(kind: str, clips: int) -> float:
    """What is assumed of a paired difference's standard deviation over listeners: sqrt(2 (taste^2 + vote^2 / clips)).

    A pilot of five listeners knows better: `Analysis.differences.sd`.
    """
    vote, taste = SPREADS[kind]
    return float(np.sqrt(2 * (taste**2 + vote**2 / clips)))


def power(difference, spread: float, n):
    """The chance that n listeners, compared in pairs by t at 5 %, show a difference that is there."""
    n = np.asarray(n)
    far, edge = np.abs(difference) * np.sqrt(n) / spread, stats.t.ppf(0.975, n - 1)
    return stats.nct.sf(edge, n - 1, far) + stats.nct.cdf(-edge, n - 1, far)


def needed(difference: float, spread: float) -> int:
    """How many listeners show a difference of two systems with a chance of 80 %."""
    if not (difference > 0 and spread > 0):
        raise UsageError(
            f"A difference of {difference:g} at a spread of {spread:g} was asked; both are points of the scale, above 0."
        )
    n = np.arange(2, 2001)
    enough = np.flatnonzero(power(difference, spread, n) >= 0.8)
    if not enough.size:
        raise UsageError(
            f"A difference of {difference:g} at a spread of {spread:g} asks for more than 2,000 listeners; plan for a larger one."
        )
    return int(n[enough[0]])


def detectable(n: int, spread: float) -> float:
    """The smallest difference that n listeners show with a chance of 80 %."""
    sizes = np.linspace(0, 8, 1601)[1:]
    return float(sizes[np.searchsorted(power(sizes, 1.0, n), 0.8)]) * spread if n > 2 else float("nan")


def plan(kind: str, spread: float) -> pd.DataFrame:
    """How many listeners for which difference between two systems, in points of the scale."""
    scale = listening.KINDS[kind].high - listening.KINDS[kind].low
    sizes = [share * scale for share in (0.05, 0.075, 0.125, 0.25)]
    return pd.DataFrame({"difference": sizes, "listeners": [needed(size, spread) for size in sizes]})


def plan_figure(kind: str, clips: int) -> go.Figure:
    """The smallest difference that is shown with a chance of 80 %, by the number of listeners."""
    n = np.arange(4, 61)
    fig = go.Figure()
    for k, count in enumerate(sorted({max(clips // 2, 1), clips, 2 * clips})):
        sizes = [detectable(i, assumed(kind, count)) for i in n]
        fig.add_scatter(x=n, y=sizes, name=f"{count} clips of a system", mode="lines", line_color=style.COLOURS[k])
    fig.update_xaxes(title="listeners").update_yaxes(title="smallest difference", rangemode="tozero")
    return style.styled(fig, body=320)


# ---------------------------------------------------------------------------------------------------------- simulation


@dataclass(frozen=True)
class Simulated:
    """votes: (repetitions, listeners, systems, clips) · truth: of each repetition's clips, (repetitions, systems)"""

    votes: np.ndarray
    truth: np.ndarray


def simulate(kind: str, qualities, listeners: int, clips: int, repetitions: int = 1, seed: int = 0) -> Simulated:
    """Votes from known qualities: y = quality + clip + listener + taste + noise, rounded and cut to the scale.

    clip ~ N(0, s^2) of each system's own clips, listener ~ N(0, s^2) strict or mild, taste ~ N(0, taste^2) of listener
    and system, noise ~ N(0, vote^2) of every vote, with `SPREADS` and s = 1/8 of the scale. With the clips fixed,
    y ~ N(m, v^2), so the truth is exact: the expected vote is low + sum over k of P(y > k + 1/2).
    """
    method, (vote, taste) = listening.KINDS[kind], SPREADS[kind]
    rng, q = np.random.default_rng(seed), np.asarray(qualities, float)
    own = (method.high - method.low) / 8
    m = q[:, None] + own * rng.standard_normal((repetitions, len(q), clips))
    y = m[:, None] + own * rng.standard_normal((repetitions, listeners, 1, 1))
    y = y + taste * rng.standard_normal((repetitions, listeners, len(q), 1))
    y = y + vote * rng.standard_normal((repetitions, listeners, len(q), clips))
    steps = np.arange(method.low, method.high) + 0.5
    v = np.sqrt(own**2 + taste**2 + vote**2)
    truth = sum(stats.norm.sf((step - m) / v) for step in steps) + method.low
    return Simulated(np.clip(np.round(y), method.low, method.high).astype(int), truth.mean(-1))
