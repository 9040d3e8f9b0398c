"""Numbers about sets of points (n, D): how alike two sets are, how diverse one is. Float64 inside; no model is known."""

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import ks_2samp

__all__ = ["bootstrap", "kolmogorov", "memorisation", "mmd", "vendi"]


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
    return float(np.exp(-(share * np.log(share)).sum()) if q == 1 else (share**q).sum() ** (1 / (1 - q)))


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


def bootstrap(values, repeats: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of independent values (n,)."""
    v = np.asarray(values, np.float64)
    draws = v[np.random.default_rng(seed).integers(len(v), size=(repeats, len(v)))].mean(1)
    return tuple(float(q) for q in np.quantile(draws, [0.025, 0.975]))
