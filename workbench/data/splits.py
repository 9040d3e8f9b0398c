"""Which clips train and which are held out: whole packs or clusters of near-duplicates, never both sides of a pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.errors import UsageError

__all__ = ["COSINE", "LARGE", "LEFT_OUT", "PACKS", "alike", "assign"]

# Tried on 1,788 one-shots of 60 drum machines. Clips in the largest chain of pairs, and clips with a twin in another
# machine: 1,149 and 1,042 at 0.95; 362 and 413 at 0.97; 65 and 118 at 0.98; 11 and 8 at 0.99; 3 and 0 at 0.995.
# At 0.99 98 % of the pairs share their label, most are takes of one drum of one machine; at 0.97 they are two snares.
COSINE = 0.99
LARGE = 0.15  # share of the clips above which a pack (or a cluster) is training
PACKS = 5  # fewer packs are split by cluster
SHARES = {"test": 0.1, "valid": 0.1}
FEWEST = 2  # clips in each of them, where there are enough to choose from: training takes as many
LEFT_OUT = "near"


def alike(vectors: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, cosine: float = COSINE) -> np.ndarray:
    """Pairs (M, 2) of positions in `rows` whose vectors have at least this cosine: all of them and no other.

    vectors   gives the unit vectors (n, D) of some rows; asked in blocks, so that a store stays on disk
    rows      (N,) which are compared

    Unit vectors of cosine c lie sqrt(2 - 2 c) apart, and a projection shortens distances: a radius search in 16
    principal components finds a superset without comparing all pairs, which is then verified on the whole vectors.
    """
    from scipy.spatial import cKDTree

    def take(chosen: np.ndarray) -> np.ndarray:
        x = vectors(rows[chosen]).astype(np.float32)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)  # half precision is off by 1e-4

    blocks = np.array_split(np.arange(len(rows)), len(rows) // 2048 + 1)
    axes = np.linalg.eigh(sum(x.T @ x for x in map(take, blocks)))[1][:, -16:]
    points = np.concatenate([take(block) @ axes for block in blocks])
    pairs = cKDTree(points).query_pairs(np.sqrt(2 - 2 * cosine) + 1e-4, output_type="ndarray")
    found = [
        part[(take(part[:, 0]) * take(part[:, 1])).sum(1) >= cosine]
        for part in np.array_split(pairs, len(pairs) // 8192 + 1)
    ]
    found = np.concatenate(found)
    return found[np.lexsort(found.T[::-1])]


def assign(
    labels: np.ndarray,
    packs: np.ndarray,
    pairs: np.ndarray,
    before: np.ndarray,
    by: str | None,
    seed: int,
    fold: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Group, near, split of each clip, and what was kept whole ("pack" or "cluster").

    labels, packs   (N,) of str
    pairs           (M, 2) near-duplicates
    before          (N,) splits given earlier, None where there is none: they are kept
    by              what was kept whole then
    fold            (i, k): test is the i-th of k parts of the packs and valid the next one, instead of a tenth each

    Packs are kept whole and never merged; one that holds over 15 % of the clips trains; a tenth each of the clips goes
    to test and valid, pack by pack so that the labels come out even. Under five packs (or where every pack is large)
    clusters of near-duplicates are kept whole instead. A held-out clip that sounds like one in another set is used by
    none: "near".
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(labels)
    links = coo_matrix((np.ones(len(pairs), bool), pairs.T), (n, n))
    group = connected_components(links, directed=False)[1]
    near = np.zeros(n, bool)
    near[pairs[packs[pairs[:, 0]] != packs[pairs[:, 1]]].ravel()] = True
    before = np.where(before == before, before, None)  # NaN: a new row of an old table
    pack = np.unique(packs, return_inverse=True)[1]
    if by is None:
        small = (np.bincount(pack) <= LARGE * n).sum()
        by = "pack" if len(np.bincount(pack)) >= PACKS and small >= len(SHARES) else "cluster"
    whole = pack if by == "pack" else group
    split = _greedy(labels, whole, before, seed) if fold is None else _folded(labels, whole, before, seed, *fold)
    old = before != None  # noqa: E711
    first, second = pairs.T
    for loser, winner in ((first, second), (second, first)):
        clash = (split[loser] != split[winner]) & (split[winner] != LEFT_OUT) & (split[loser] != LEFT_OUT)
        # what was there stays; else the held-out clip gives way, and of two held-out ones that of valid
        weaker = ~old[loser] & (
            old[winner] | (split[winner] == "train") | ((split[loser] == "valid") & (split[winner] == "test"))
        )
        split[loser[clash & weaker]] = LEFT_OUT
    return group, near, split, by


def _counts(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Clips of each label (columns) in each group (rows)."""
    label = np.unique(labels, return_inverse=True)[1]
    counts = np.zeros((group.max() + 1, label.max() + 1))
    np.add.at(counts, (group, label), 1)
    return counts


def _folded(labels: np.ndarray, group: np.ndarray, before: np.ndarray, seed: int, fold: int, folds: int) -> np.ndarray:
    """Cut the groups into `folds` parts of about the same labels, the same parts for every fold; large groups train."""
    counts = _counts(labels, group)
    free = np.random.default_rng([seed, folds]).permutation(len(counts))
    free = [g for g in free[np.argsort(-counts[free].sum(1), kind="stable")] if counts[g].sum() <= LARGE * len(labels)]
    part, held = np.full(len(counts), -1), np.zeros((folds, counts.shape[1]))
    weight = 1 / (counts.sum(0) + 0.5)
    for g in free:  # the largest first, each to where its labels are rarest
        best = int(((2 * held + counts[g]) * counts[g] * weight).sum(1).argmin())  # what it adds to the sum of squares
        part[g] = best
        held[best] += counts[g]
    if not held.sum(1).all():
        raise UsageError(
            f"{folds} folds were asked of {len(free)} packs or clusters of at most {LARGE:.0%} of the clips each: some fold would "
            "be empty; ask for fewer folds or add packs."
        )
    names = np.full(len(counts), "train", object)
    names[part == fold], names[part == (fold + 1) % folds] = "test", "valid"
    return np.where(before != None, before, names[group])  # noqa: E711


def _greedy(labels: np.ndarray, group: np.ndarray, before: np.ndarray, seed: int) -> np.ndarray:
    """Give whole groups to test and valid until each holds about its share of every label; the rest trains."""
    counts = _counts(labels, group)
    n, groups = len(labels), len(counts)
    split = before.copy()
    fixed = np.full(groups, "", object)
    for i in np.flatnonzero(before != None):  # noqa: E711
        if before[i] != LEFT_OUT:
            fixed[group[i]] = (
                before[i] if fixed[group[i]] in ("", before[i]) else LEFT_OUT
            )  # a new clip that bridges two sets
    fixed[(fixed == "") & (counts.sum(1) > LARGE * n)] = "train"
    free = np.random.default_rng([seed, groups]).permutation(np.flatnonzero(fixed == ""))
    for name, share in SHARES.items():
        target = share * counts.sum(0)
        weight = 1 / np.sqrt(target + 0.5)  # a rare label counts, but not as much as its rarity
        held = counts[fixed == name].sum(0)
        while free.size:
            some = free[:256]  # enough to choose from; all of them would take the square of their number
            gain = (((held - target) * weight) ** 2).sum() - (((held + counts[some] - target) * weight) ** 2).sum(1)
            best = int(gain.argmax())
            few = held.sum() < FEWEST and free.size > 2  # though every group may be too large for it
            if gain[best] <= 0 and not few:
                break
            fixed[some[best]] = name
            held += counts[some[best]]
            free = np.roll(np.delete(free, best), -min(255, max(0, free.size - 1)))
    fixed[fixed == ""] = "train"
    new = before == None  # noqa: E711
    split[new] = fixed[group[new]]
    return split
