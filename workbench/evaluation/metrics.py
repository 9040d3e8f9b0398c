"""Numbers about sets of points (n, D): how alike two sets are, how diverse one is. Float64 inside; no model is known.

Most of them depend on n: compare sets of equal size only, and beside each give the floor, what two disjoint sets of
real points get at that n. No single one sees everything: a collapse onto few points looks precise, copies of the
training set look perfect to all but `memorisation`.
"""

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score, roc_auc_score, silhouette_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = [
    "auc",
    "bootstrap",
    "fad",
    "kad",
    "kid",
    "kolmogorov",
    "linear_probe",
    "mean_pairwise_distance",
    "memorisation",
    "mig",
    "mmd",
    "prdc",
    "silhouette",
    "subsampled",
    "vendi",
]


def points(x, least: int = 2, name: str = "set") -> np.ndarray:
    """x as float64 (n, D), refused where a number could not be trusted."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"A {name} of shape {x.shape} is not a table of points; give (n, D).")
    if len(x) < least:
        raise ValueError(f"A {name} of {len(x)} points is too small; this needs at least {least}.")
    if not np.isfinite(x).all():
        raise ValueError(
            f"A {name} holds {int((~np.isfinite(x)).any(1).sum())} of {len(x)} points that are not finite; leave them out first."
        )
    return x


def pair(x, y, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    x, y = points(x, least, "reference"), points(y, least)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"Points of {x.shape[1]} and of {y.shape[1]} dimensions cannot be compared.")
    return x, y


# ------------------------------------------------------------------------------------------------ two sets, one number


def fad(real, generated) -> float:
    r"""Fréchet distance of the two sets' Gaussians, |m - m'|² + tr(S + S' - 2 (S S')^½), squared as everywhere.

    The trace of the root is the nuclear norm of A B^T, where A and B are the centred points over sqrt(n - 1): exact with
    fewer points than dimensions, never complex, no epsilon. Its bias is positive and about c / n: read it beside a
    floor of the same n. Kilgour et al., 2019, https://arxiv.org/abs/1812.08466
    """
    x, y = pair(real, generated)
    between = np.square(x.mean(0) - y.mean(0)).sum()
    a, b = ((v - v.mean(0)) / np.sqrt(len(v) - 1) for v in (x, y))
    own = np.square(a).sum() + np.square(b).sum()
    a, b = (np.linalg.qr(v, mode="r") for v in (a, b))  # the orthogonal parts do not change singular values
    return float(between + own - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum())


def kid(real, generated, *, gamma: float = 1.0, degree: int = 3, coef0: float = 1.0) -> float:
    """Unbiased squared maximum mean discrepancy of all points with the kernel (gamma <x, y> + coef0)^degree.

    It may be negative. With gamma = 1 / D, the custom for Inception features, points of unit norm as CLAP's are told
    apart by their means alone; hence 1. Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401
    """
    x, y = pair(real, generated)
    if not (np.isfinite(gamma) and gamma > 0 and degree >= 1):
        raise ValueError(
            f"A kernel of gamma {gamma} and degree {degree} was asked; take a gamma above 0 and a degree of at least 1."
        )

    def kernel(a, b):
        return (gamma * (a @ b.T) + coef0) ** degree

    def within(v):
        k = kernel(v, v)
        return (k.sum() - np.trace(k)) / (len(v) * (len(v) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def kad(real, generated, bandwidth: float | None = None) -> float:
    """Kernel audio distance: 100 times `mmd`, whose bandwidth is by default the median distance within the reference.

    Chung et al., 2025, https://arxiv.org/abs/2502.15602; their code takes the bandwidth from the other set, against the
    paper.
    """
    return 100 * mmd(real, generated, bandwidth)


def prdc(real, generated, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage by balls that reach to a point's k-th neighbour in its own set.

    For equal distributions and sizes density is 1 and coverage 1 - 2^-k. Output that has shrunk has a large density.
    Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991; Naeem et al., 2020, https://arxiv.org/abs/2002.09797
    """
    if k < 1:
        raise ValueError(f"The neighbour number {k} was asked; count from 1.")
    x, y = pair(real, generated, k + 2)
    between = cdist(x, y)
    reach_x, reach_y = (np.partition(cdist(v, v), k, axis=1)[:, k] for v in (x, y))  # the 0-th is the point itself
    inside = between < reach_x[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((between < reach_y).any(1).mean()),
        "density": float((1 / k) * inside.sum(0).mean()),
        "coverage": float((between.min(1) < reach_x).mean()),
    }


def mmd(real, generated, bandwidth: float | None = None) -> float:
    r"""Unbiased squared maximum mean discrepancy with the kernel exp(-d^2 / 2 s^2); it may be negative.

    A kernel two-sample test (Gretton et al., 2012), https://jmlr.org/papers/v13/gretton12a.html

    Arguments:
        real, generated: (n, D) and (m, D). bandwidth: s, by default the median distance within `real`.
    """
    x, y = pair(real, generated)
    s = bandwidth if bandwidth is not None else np.median(pdist(x))
    if not s > 0:
        raise ValueError(f"A bandwidth of {s} tells no points apart; the reference has no spread.")
    within = [np.exp(-(pdist(v) ** 2) / (2 * s**2)).mean() for v in (x, y)]
    return float(sum(within) - 2 * np.exp(-(cdist(x, y) ** 2) / (2 * s**2)).mean())


def vendi(x, q: float = 1.0, bandwidth: float | None = None) -> float:
    """Effective number of different points, between 1 and n: the exponential of the Rényi entropy of order q of the
    similarity matrix's eigenvalues.

    It grows with n: compare sets of equal size only. The Vendi score (Friedman and Dieng, 2023),
    https://arxiv.org/abs/2210.02410

    Arguments:
        x: (n, D). bandwidth: of the similarity exp(-d^2 / 2 s^2); without one it is the cosine.
    """
    x = points(x, 1)
    if not q > 0 or (bandwidth is not None and not bandwidth > 0):
        raise ValueError(f"An order of {q} and a bandwidth of {bandwidth} were asked; both are above 0.")
    if bandwidth is None:
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        if not (norm > 0).all():
            raise ValueError(
                f"{int((norm == 0).sum())} of {len(x)} points are zero and have no cosine; give a bandwidth."
            )
        similarity = (x / norm) @ (x / norm).T
    else:
        similarity = np.exp(-(cdist(x, x) ** 2) / (2 * bandwidth**2))
    share = np.linalg.eigvalsh(similarity / len(x)).clip(0)
    share = share[share > 1e-12]
    if np.isinf(q):
        return float(1 / share.max())
    return float(np.exp(-(share * np.log(share)).sum()) if q == 1 else (share**q).sum() ** (1 / (1 - q)))


def mean_pairwise_distance(x) -> float:
    """Mean cosine distance of two different points of a set, between 0 and 2."""
    x = points(x)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    if not (norm > 0).all():
        raise ValueError(f"{int((norm == 0).sum())} of {len(x)} points are zero and have no cosine.")
    n = len(x)
    return float(1 - (np.square((x / norm).sum(0)).sum() - n) / (n * (n - 1)))


def kolmogorov(real, generated) -> np.ndarray:
    """Kolmogorov-Smirnov distance of each column, (D,) between 0 (the same distribution) and 1 (no overlap)."""
    x, y = pair(real, generated)
    return np.array([ks_2samp(a, b, method="asymp").statistic for a, b in zip(x.T, y.T, strict=True)])


def memorisation(train, held, generated) -> float:
    """Median distance of draws to their nearest training point, over that of held-out points: below 0.8 is suspicious."""
    t, h = pair(train, held)
    g = pair(train, generated)[1]
    near = [np.median(cdist(v, t).min(1)) for v in (h, g)]
    if near[0] == 0:
        raise ValueError("Half of the held-out points lie in the training set; split the pack by groups first.")
    return float(near[1] / near[0])


def auc(real, generated, seed: int = 0) -> float:
    """How well a linear classifier tells draws from real points that it has not seen: 0.5 is chance, 1 always.

    Area under the ROC curve over five folds, logistic regression on standardised columns. Lopez-Paz and Oquab, 2017,
    https://arxiv.org/abs/1610.06545
    """
    x, y = pair(real, generated, 10)
    both, truth = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(roc_auc_score(truth, cross_val_predict(linear(), both, truth, cv=folds, method="predict_proba")[:, 1]))


def linear():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def linear_probe(x, labels, held, held_labels) -> float:
    """Balanced accuracy on held-out points of a linear classifier of labels: what a space tells without more learning."""
    x, held = pair(x, held)
    if len(x) != len(labels) or len(held) != len(held_labels):
        raise ValueError(f"{len(x)} and {len(held)} points came with {len(labels)} and {len(held_labels)} labels.")
    if len(set(labels)) < 2:
        raise ValueError("A probe needs two labels at least, and all points have the same.")
    return float(balanced_accuracy_score(held_labels, linear().fit(x, labels).predict(held)))


def silhouette(x, labels) -> float:
    """How much nearer points are to their own label than to the next, -1 to 1. Rousseeuw, 1987,
    https://doi.org/10.1016/0377-0427(87)90125-7"""
    x = points(x, 3)
    if not 2 <= len(set(labels)) < len(x):
        raise ValueError(
            f"{len(x)} points of {len(set(labels))} labels have no silhouette; it takes 2 labels to n - 1."
        )
    return float(silhouette_score(x, labels))


def mig(z, factors, bins: int = 20) -> np.ndarray:
    """Mutual information gap of each true factor, (F,): how much more one latent tells of it than the next does.

    0 where two latents tell the same, 1 where one tells all. Factors and latents are cut into bins of equal counts.
    Chen et al., 2018, https://arxiv.org/abs/1802.04942

    Arguments:
        z: latents (n, L), L >= 2. factors: (n, F).
    """
    z, f = points(z), points(factors)
    if len(z) != len(f) or z.shape[1] < 2:
        raise ValueError(
            f"Latents of shape {z.shape} and factors of shape {f.shape} do not fit; give (n, L >= 2) and (n, F)."
        )

    def cut(column):
        inner = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1]))
        return np.searchsorted(inner, column, side="right")

    latents, truths = [cut(c) for c in z.T], [cut(c) for c in f.T]
    gaps = []
    for truth in truths:
        told = np.sort([mutual_info_score(truth, latent) for latent in latents])
        entropy = mutual_info_score(truth, truth)
        gaps.append((told[-1] - told[-2]) / entropy if entropy > 0 else np.nan)
    return np.array(gaps)


# --------------------------------------------------------------------------------------------------------- intervals


def subsampled(metric, *sets, share: float = 0.8, repeats: int = 100, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a metric of sets, by subsets without replacement (drawn twice, a point would count as a pair).

    The spread over subsets of a share s is brought to that of whole sets by sqrt(s / (1 - s)) (Politis and Romano, 1994,
    https://doi.org/10.1214/aos/1176325770) and laid around the metric of all points, of which most carry a bias at
    this n.
    """
    if repeats < 2:
        raise ValueError(f"{repeats} repetitions were asked; an interval takes 2 or more.")
    if not 0 < share < 1:
        raise ValueError(f"Subsets of a share of {share} were asked; take a share between 0 and 1, as 0.8.")
    rng = np.random.default_rng(seed)
    parts = ([v[rng.permutation(len(v))[: max(2, round(share * len(v)))]] for v in sets] for _ in range(repeats))
    values = np.array([metric(*part) for part in parts])
    spread = (values - values.mean()) * np.sqrt(share / (1 - share))
    low, high = np.quantile(spread, [0.025, 0.975])
    centre = metric(*sets)
    return float(centre + low), float(centre + high)


def bootstrap(values, repeats: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of independent values (n,)."""
    v = np.asarray(values, np.float64)
    if not v.size:
        raise ValueError("There are no values to give an interval of.")
    draws = v[np.random.default_rng(seed).integers(len(v), size=(repeats, len(v)))].mean(1)
    return tuple(float(q) for q in np.quantile(draws, [0.025, 0.975]))
