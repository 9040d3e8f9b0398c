"""Do the intervals of a listening test cover the truth? `python benchmarks/listening.py [REPETITIONS]`, 4,000 by default.

Simulates tests of known qualities (`opinions.simulate`, 12 clips of a system) and prints which share of the 95 %
intervals covers the truth, the lowest and the highest over systems. Beside ours stand what is often reported instead:
plain bootstrap percentiles, and t over all votes as if they were independent.
"""

import sys
import time

import numpy as np

from workbench.listening import opinions

QUALITIES = {"acr": [4.6, 1.8, 3.6, 3.2], "mushra": [97, 25, 55, 70, 62]}  # real, anchors, two systems


def percentiles(means: np.ndarray) -> np.ndarray:
    """Bootstrap intervals without the widening."""
    n = means.shape[-1]
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), opinions.DRAWS) / n
    return np.moveaxis(np.quantile(means @ weights.T, [0.025, 0.975], axis=-1), 0, -1)


def covered(values: np.ndarray, truth: np.ndarray, interval) -> str:
    low, high = np.moveaxis(interval(values), -1, 0)
    share = 100 * ((low <= truth) & (truth <= high)).mean(0)
    return f"{share.min():.1f} to {share.max():.1f} %"


def main(repetitions: str = "4000") -> None:
    begun = time.perf_counter()
    for kind, qualities in QUALITIES.items():
        for n in (6, 12, 24, 48):
            made = opinions.simulate(kind, qualities, listeners=n, clips=12, repetitions=int(repetitions), seed=n)
            votes, truth = made.votes.swapaxes(1, 2), made.truth  # (repetitions, systems, listeners, clips)
            means, every = votes.mean(3), votes.reshape(*votes.shape[:2], -1)
            pairs = np.triu_indices(len(qualities), 1)
            apart = (means[:, pairs[0]] - means[:, pairs[1]], truth[:, pairs[0]] - truth[:, pairs[1]])
            print(
                f"{kind}, {n} listeners: t {covered(means, truth, opinions.t_interval)}; "
                f"bootstrap {covered(means, truth, opinions.bootstrap_interval)}; "
                f"paired differences {covered(*apart, opinions.t_interval)} | plain percentiles "
                f"{covered(means, truth, percentiles)}; votes as if independent {covered(every, truth, opinions.t_interval)}",
                flush=True,
            )
    print(f"{int(repetitions):,} repetitions each, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
