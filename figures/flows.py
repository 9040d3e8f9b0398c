"""What a sweep over posterior, prior and beta says: arms at one divergence, paired over folds, and sentences that follow.

A sentence says no more than its interval: "lower" or "higher" where the 95 % interval of the paired difference leaves out
zero, otherwise "not distinguishable", with the smallest difference that so few folds would probably have found.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from workbench.errors import UsageError
from workbench.evaluation import compare
from workbench.evaluation.compare import Difference

POSTERIORS = {"gaussian": "Gaussian posterior", "flow": "flow posterior"}
PRIORS = {"standard": "N(0, I)", "gaussian": "Gaussian", "mixture": "mixture", "realnvp": "flow"}
MEASURES = {"FAD": 1, "KID": 2, "coverage": 2, "diversity": 3}  # and their decimals in tables
# (what becomes what, posterior and prior with it, posterior and prior of its baseline); the first three are the question
CONTRASTS = {
    "prior": ("prior N(0, I) → flow", "gaussian", "realnvp", "gaussian", "standard"),
    "posterior": ("posterior Gaussian → flow", "flow", "standard", "gaussian", "standard"),
    "both": ("both → flow", "flow", "realnvp", "gaussian", "standard"),
    "posterior-too": ("posterior → flow, flow prior", "flow", "realnvp", "gaussian", "realnvp"),
    "mixture": ("prior N(0, I) → mixture", "gaussian", "mixture", "gaussian", "standard"),
    "over-mixture": ("prior mixture → flow", "either", "realnvp", "either", "mixture"),
    "over-mixture-too": ("the same, flow posterior", "flow", "realnvp", "flow", "mixture"),
}


def arm(posterior: str, prior: str) -> str:
    return compare.name_of(("posterior", "prior"), (posterior, prior))


def values(wide: pd.DataFrame, posterior: str, prior: str) -> pd.Series:
    """A measure of an arm, by block."""
    return wide[[arm(q, prior) for q in (POSTERIORS if posterior == "either" else [posterior])]].mean(axis=1)


def said(value: float) -> str:
    """Three digits; a hundred and more has no point."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else ""
    text = f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"
    return text.replace("-", "−")


def signed(value: float) -> str:
    return said(value) if value < 0 else "+" + said(value)


def between(d: Difference) -> str:
    return f"{signed(d.low)} to {signed(d.high)}" if np.isfinite(d.low) else "no interval"


def decimal(name: str, value: float) -> str:
    """A measure as tables have it, with as many decimals in each line."""
    return f"{value:.{MEASURES[name]}f}".replace("-", "−")


def counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def verdict(d: Difference) -> str:
    """lower, higher, or not distinguishable; of one pair only which way it went."""
    way = "lower" if d.mean < 0 else "higher"
    if d.n < 2:
        return f"{way} in the only fold so far"
    return way if d.low > 0 or d.high < 0 else "not distinguishable"


def sentence(d: Difference) -> str:
    """What a paired difference allows to be said, as the end of a sentence that begins with what it is of."""
    if d.n < 2:
        return f"was {verdict(d)} by {said(abs(d.mean))}, of which no interval can be given"
    seen = f"95 % interval {between(d)}, {counted(d.n, 'fold')}"
    if verdict(d) != "not distinguishable":
        return f"was {verdict(d)} by {said(abs(d.mean))} ({seen})"
    return (
        f"was not distinguishable: the difference was {signed(d.mean)} ({seen}), and a true one below {said(d.detectable)} "
        "would probably have gone unseen"
    )


@dataclass(frozen=True)
class Sweep:
    """Rows of a sweep, read at one divergence.

    at: nats per clip at which arms are compared, or nan where they share none and stand at `beta` instead ·
    wide: {measure: blocks by arms} · contrasts: {(contrast, measure): Difference}
    """

    rows: pd.DataFrame
    embedding: str
    at: float
    beta: float
    wide: dict[str, pd.DataFrame]
    contrasts: dict[tuple[str, str], Difference]

    @property
    def where(self) -> str:
        """At which divergence, as the beginning of a sentence."""
        return f"at {said(self.at)} nats per clip" if np.isfinite(self.at) else f"at beta = {self.beta:g}"


def read(rows: pd.DataFrame) -> Sweep:
    """A sweep from its rows; arms that share no divergence are compared at the middle beta, and `where` says so."""
    if missing := {"posterior", "prior", "beta"} - set(rows):
        raise UsageError(f"The rows of the sweep have no {', '.join(sorted(missing))}.")
    embedding, betas = rows.embedding.iloc[0], sorted(rows.beta.unique())
    beta, told, wide, at = betas[len(betas) // 2], ["posterior", "prior"], {}, np.nan
    for name in MEASURES:
        number = f"{name}-{embedding}"
        try:
            wide[name], at = compare.matched(rows, told, number, "beta")
        except UsageError:
            wide[name] = compare.cells(rows[rows.beta == beta], told, number)
    found = {
        (key, name): compare.paired(values(wide[name], q, p) - values(wide[name], q0, p0))
        for key, (_, q, p, q0, p0) in CONTRASTS.items()
        for name in MEASURES
    }
    return Sweep(rows, embedding, at, float(beta), wide, found)


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean over folds with Student's 95 % interval; nan for the ends of fewer than two."""
    d = compare.paired(values.to_numpy())
    return d.mean, d.low, d.high


def curve(sweep: Sweep, posterior: str, prior: str, number: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A number over the nats spent, a point for each beta: nats (n,), means (n,) and ends (n, 2) over folds."""
    part = sweep.rows[(sweep.rows.posterior == posterior) & (sweep.rows.prior == prior)]
    points = []
    for _, own in part.groupby("beta"):
        blocks = own.groupby("store" if own.store.nunique() > 2 else ["store", "seed"])[["nats", number]].mean()
        points.append((blocks.nats.mean(), *interval(blocks[number])))
    x, y, low, high = np.array(sorted(points)).T
    return x, y, np.stack([low, high], 1)


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Held-out log-likelihood of each prior over that of N(0, I) on the same encoder, in nats, beside the run's FAD."""
    base = rows[rows.prior == "standard"].set_index("run").log_likelihood
    return rows.assign(gain=rows.log_likelihood - rows.run.map(base))


def agreement(sweep: Sweep) -> dict[str, str]:
    """Do likelihood and ear agree? Over encoders: Spearman's correlation of both over priors, and who is best by each."""
    fad = f"FAD-{sweep.embedding}"
    parts = [part.set_index("prior") for _, part in sweep.rows.groupby("run")]
    rank = np.mean([spearmanr(p.log_likelihood, -p[fad]).statistic for p in parts])
    over = [p.log_likelihood["realnvp"] - p.log_likelihood["mixture"] for p in parts]
    heard = [p[fad]["realnvp"] < p[fad]["mixture"] for p in parts]
    return {
        "encoders": str(len(parts)),
        "rank": said(rank),
        "likelier": str(sum(v > 0 for v in over)),
        "likelier by": said(float(np.mean(over))),
        "heard nearer": str(sum(heard)),
        "same best": str(sum(p.log_likelihood.idxmax() == p[fad].idxmin() for p in parts)),
    }


def answer(sweep: Sweep) -> str:
    """Do flows help? A sentence for each part, by FAD, that says no more than the intervals."""

    def does(key: str) -> str:
        d, (_, q, p, q0, p0) = sweep.contrasts[key, "FAD"], CONTRASTS[key]
        before, after = (said(values(sweep.wide["FAD"], *a).mean()) for a in ((q0, p0), (q, p)))
        known = {"lower": f"lowers FAD from {before} to {after}", "higher": f"raises FAD from {before} to {after}"}
        unknown = f"takes FAD from {before} to {after}, which {counted(d.n, 'fold')} cannot tell from no change (95 % interval {between(d)})"
        if d.n < 2:
            return f"goes with a {verdict(d).split()[0]} FAD in the only fold so far ({before} to {after})"
        return known.get(verdict(d), unknown)

    return (
        f"Put in the place of N(0, I), a flow prior {does('prior')}; a Gaussian mixture, its cheap rival, {does('mixture')}. Put in "
        f"the place of that mixture, the flow prior {does('over-mixture')}, as a mean over both posteriors. A flow "
        f"posterior {does('posterior')} when draws come from N(0, I), and {does('posterior-too')} when they come from the flow prior."
    )


def results(sweep: Sweep, folds: pd.DataFrame, floors: pd.DataFrame) -> dict[str, str]:
    """Everything that prose may say of the sweep, by name."""
    rows = sweep.rows
    runs = rows.groupby("run").first()
    found = {
        "where": sweep.where,
        "embedding": sweep.embedding,
        "folds": counted(rows.store.nunique(), "fold"),
        "seeds": counted(rows.seed.nunique(), "seed"),
        "runs": counted(len(runs), "run"),
        "rows": str(len(rows)),
        "minutes": said(runs.minutes.sum()),
        "minutes each": said(runs.minutes.mean()),
        "betas": ", ".join(f"{b:g}" for b in sorted(rows.beta.unique())),
        "rate": f"{rows.rate.iloc[0]:,}",
        "seconds": f"{rows.length.iloc[0] / rows.rate.iloc[0]:.2f}",
        "lowest nats": said(rows.nats.min()),
        "highest nats": said(rows.nats.max()),
        "minutes, Gaussian": said(runs.minutes[runs.posterior == "gaussian"].mean()),
        "minutes, flow": said(runs.minutes[runs.posterior == "flow"].mean()),
        "smallest training set": f"{folds.train.min():,}",
        "largest training set": f"{folds.train.max():,}",
        "test clips": f"{folds.test.min():,} to {folds.test.max():,}",
        "machines": str(folds.machines.max()),
        "set size": " to ".join(map(str, sorted({floors.n.min(), floors.n.max()}))),
        "answer": answer(sweep),
        "least memorisation": said(rows[f"memorisation-{sweep.embedding}"].min()),
    }
    for (key, name), d in sweep.contrasts.items():
        found |= {
            f"{key}/{name}": sentence(d),
            f"{key}/{name}/verdict": verdict(d),
            f"{key}/{name}/by": said(abs(d.mean)),
            f"{key}/{name}/detectable": said(d.detectable) or "not known",
        }
    for name in MEASURES:
        own = floors[floors.number == name]
        found[f"floor/{name}"] = said(own.value.mean())
        for q in POSTERIORS:
            found |= {f"{q}/{p}/{name}": said(sweep.wide[name][arm(q, p)].mean()) for p in PRIORS}
    return found | {f"agreement/{name}": text for name, text in agreement(sweep).items()}
