"""Noise that is a function of a seed and a clip's number, whatever the batch."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

__all__ = ["keyed_noise"]


def keyed_noise(seed: int | Sequence[int], index: Sequence[int], *size: int) -> Tensor:
    """Standard normal noise (n, *size), row i a function of (seed, index[i]) alone, whatever the batch.

    A counter-based generator, as torch's know only one stream: SplitMix64 (Steele et al., 2014,
    https://doi.org/10.1145/2660193.2660195) of (seed, index, place), through the normal quantile function.
    """
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    rows, places = np.asarray(index, np.uint64)[:, None], np.arange(math.prod(size), dtype=np.uint64)
    bits = splitmix(splitmix(rows ^ key) + places)
    return torch.from_numpy(ndtri(((bits >> np.uint64(11)) + 0.5) * 2.0**-53).astype(np.float32)).reshape(-1, *size)


def splitmix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
