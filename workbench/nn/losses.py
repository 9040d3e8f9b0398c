"""Distances between clips, and between the distances of two spaces, as pure functions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SCALES", "distance_matching", "magnitudes", "spectral_distance"]

SCALES = (2048, 1024, 512, 256, 128)
FLOOR = 1e-3  # of a clip's largest magnitude: 60 dB below, so that padding does not dominate the logarithm
SILENCE = 1e-4  # absolute, in magnitude per root of the window's energy: a silent clip is never 0 / 0


def magnitudes(x: Tensor, n_fft: int, hop: int) -> Tensor:
    """STFT magnitudes of clips (B, 1, T) -> (B, N, F), scaled so that white noise of unit power has magnitude one."""
    window = torch.hann_window(n_fft, device=x.device, dtype=x.dtype)
    frames = F.pad(x[:, 0], (n_fft // 2, n_fft // 2)).unfold(-1, n_fft, hop)  # a third faster than torch.stft and back
    return torch.fft.rfft(frames * (window / window.square().sum().sqrt())).abs()


def spectral_distance(x: Tensor, y: Tensor, scales: Sequence[int] = SCALES, overlap: int = 4) -> Tensor:
    r"""Multi-scale spectral distance of each clip `y` from its reference `x`, (B, 1, T) each -> (B,).

    For magnitudes :math:`X, Y` of each window length, the mean over scales of

    .. math:: \frac{\|X - Y\|_F}{\|X\|_F} + \operatorname{mean} \left| \log \frac{X + f}{Y + f} \right|

    where the floor :math:`f` is 1e-3 of the largest magnitude of `x` at that scale plus an absolute minimum: the
    zeros of a padded clip count for little, and a silent reference gives a finite number. Nothing is cropped, since
    a one-shot's attack is at its very start. Silence scores 1 plus the log term.

    Multi-scale spectra after Wang et al., 2019 (Neural source-filter models), https://arxiv.org/abs/1904.12088;
    relative L2 and log L1 after Arik et al., 2018, https://arxiv.org/abs/1808.06719

    Arguments:
        scales: window lengths in values; overlap: windows that cover one value (hop = window / overlap).
    """
    if x.shape != y.shape:
        raise ValueError(f"Clips of shape {tuple(y.shape)} have no distance from clips of shape {tuple(x.shape)}.")
    x, y = x.float(), y.float()  # half precision has no FFT
    total = torch.zeros(x.shape[0], device=x.device)
    for n_fft in scales:
        a, b = (magnitudes(v, n_fft, n_fft // overlap) for v in (x, y))
        floor = FLOOR * a.amax((1, 2), keepdim=True) + SILENCE
        relative = (a - b).flatten(1).norm(dim=1) / (a.flatten(1).norm(dim=1) + SILENCE * a[0].numel() ** 0.5)
        total = total + relative + ((a + floor).log() - (b + floor).log()).abs().mean((1, 2))
    return total / len(scales)


def distance_matching(z: Tensor, d: Tensor) -> Tensor:
    r"""How far the distances between points z (B, L) are from those between points d (B, D) of the same clips.

    The mean of :math:`(\|z_i - z_j\| / \bar z - \|d_i - d_j\| / \bar d)^2` over pairs, each over its mean distance, so that no unit
    matters: 0 where one space is the other, turned and scaled. With d what the ear measures it makes a latent perceptual
    (Esling, Chemla-Romeu-Santos and Bitton, 2018, https://arxiv.org/abs/1805.08501).
    """
    if len(z) < 2:  # the last batch of a validation may hold one clip, which has no distances
        return 0 * z.sum()
    a, b = F.pdist(z.flatten(1)), F.pdist(d)
    return (a / a.mean().clamp_min(1e-9) - b / b.mean().clamp_min(1e-9)).square().mean()
