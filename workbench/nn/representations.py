"""Views of a clip: PQMF sub-bands, complex STFT, overlapping frames, and mel bands, which have no exact way back."""

import functools
import math
import warnings

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from scipy import optimize, signal
from torch import Tensor, nn

from workbench.errors import UsageError

__all__ = ["PQMF", "STFT", "Frames", "Mel", "frames_of"]


@functools.cache
def prototype(bands: int, attenuation: float) -> np.ndarray:
    """Kaiser low-pass whose autocorrelation vanishes at multiples of 2 x bands (377 taps for 16 bands at 100 dB)."""

    def design(cutoff: float) -> np.ndarray:
        taps, beta = signal.kaiserord(attenuation, cutoff / np.pi)
        return signal.firwin(2 * (taps // 2) + 1, cutoff / np.pi, window=("kaiser", beta), scale=False)

    def overlap(cutoff: float) -> float:
        h = design(cutoff)
        r = signal.fftconvolve(h, h[::-1])[h.size - 1 :: 2 * bands]
        return np.abs(r[1:]).max()

    # The number of taps steps with the cutoff, so the error is only piecewise smooth: look on a grid first.
    grid = np.linspace(0.8, 1.4, 61) * np.pi / (2 * bands)
    start = grid[np.argmin([overlap(c) for c in grid])]
    best = optimize.minimize_scalar(
        overlap, bounds=(start * 0.99, start * 1.01), method="bounded", options={"xatol": 1e-12}
    )
    return design(best.x if best.fun < overlap(start) else start)


class PQMF(nn.Module):
    r"""Pseudo quadrature mirror filters: a clip as critically sampled sub-bands, and back.

    The clip is taken as periodic, so that its very first values, where the attack of a one-shot lies, are kept too.
    Each band is the prototype :math:`h` moved by a cosine,
    :math:`h_k[n] = 2 h[n] \cos\bigl((2k+1) \tfrac{\pi}{2M} (n - \tfrac{N-1}{2}) + (-1)^k \tfrac{\pi}{4}\bigr)`,
    and the inverse filters are their time reversals. Reconstruction is near-perfect (about 60 dB), with no delay.

    Near-perfect-reconstruction pseudo-QMF banks (Nguyen, 1994), https://doi.org/10.1109/78.258122

    Arguments:
        bands: number of sub-bands M; it must divide the clip's length.
        attenuation: of the prototype's stop band, in dB.

    >>> PQMF(16)(torch.zeros(2, 1, 4096)).shape
    torch.Size([2, 16, 256])
    """

    def __init__(self, bands: int = 16, attenuation: float = 100.0):
        super().__init__()
        self.bands = bands
        h = prototype(bands, attenuation)
        n, k = np.arange(h.size) - (h.size - 1) / 2, np.arange(bands)[:, None]
        filters = 2 * h * np.cos((2 * k + 1) * np.pi / (2 * bands) * n + (-1.0) ** k * np.pi / 4)
        # Both directions are a strided convolution with the same filters: the transpose applies the time reversal.
        self.register_buffer(
            "filters", torch.tensor(filters * math.sqrt(bands), dtype=torch.float32)[:, None], persistent=False
        )
        self.half = h.size // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> (B, M, T / M)"""
        if x.shape[-1] % self.bands:
            raise ValueError(
                f"A clip of {x.shape[-1]} values does not divide into {self.bands} bands; use a multiple of {self.bands}."
            )
        return F.conv1d(F.pad(x, (self.half, self.half), mode="circular"), self.filters, stride=self.bands)

    def inverse(self, y: Tensor) -> Tensor:
        """(B, M, N) -> (B, 1, N x M)"""
        edge = -(-self.half // self.bands)  # frames that reach into the clip from beyond its ends
        x = F.conv_transpose1d(F.pad(y, (edge, edge), mode="circular"), self.filters, stride=self.bands)
        start = self.half + edge * self.bands
        return x[..., start : start + y.shape[-1] * self.bands]


class STFT(nn.Module):
    """Complex short-time Fourier transform as two real channels, whose inverse is written without complex numbers.

    Frames are centred and zero-padded; the window is a periodic Hann, and the inverse divides by the sum of squared
    windows, so that `inverse(forward(x)) == x` up to rounding for `hop <= n_fft / 2`.

    >>> STFT(64, 32)(torch.zeros(2, 1, 128)).shape
    torch.Size([2, 2, 33, 5])
    """

    def __init__(self, n_fft: int = 1024, hop: int = 256):
        super().__init__()
        if n_fft % hop or hop > n_fft // 2:
            raise ValueError(
                f"A hop of {hop} does not overlap-add frames of {n_fft}; use {n_fft // 2} or {n_fft // 4}."
            )
        self.n_fft, self.hop, self.short = n_fft, hop, n_fft <= 128
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        k, n = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None], torch.arange(n_fft, dtype=torch.float64)
        weight = torch.full_like(k, 2.0 / n_fft)
        weight[0] = weight[-1] = 1.0 / n_fft
        angle = 2 * math.pi * k * n / n_fft
        basis = torch.cat([weight * torch.cos(angle), -weight * torch.sin(angle)]).float() * self.window
        self.register_buffer("basis", basis, persistent=False)  # (2 F, n_fft)
        analysis = torch.cat([torch.cos(angle), -torch.sin(angle)]).float() * self.window
        self.register_buffer("analysis", analysis.T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> (B, 2, F, N) with F = n_fft / 2 + 1 and N = T / hop + 1"""
        frames = F.pad(x[:, 0], (self.n_fft // 2, self.n_fft // 2)).unfold(-1, self.n_fft, self.hop)
        if self.short:  # as a matrix product it is twice as fast, there and back
            return (frames @ self.analysis).unflatten(-1, (2, self.n_fft // 2 + 1)).permute(0, 2, 3, 1)
        return torch.view_as_real(torch.fft.rfft(frames * self.window)).permute(0, 3, 2, 1)

    def inverse(self, s: Tensor) -> Tensor:
        """(B, 2, F, N) -> (B, 1, (N - 1) x hop)"""
        frames = s.flatten(1, 2).transpose(1, 2) @ self.basis
        norm = overlap_add(self.window.square().expand(1, s.shape[-1], self.n_fft), self.hop)
        x = overlap_add(frames, self.hop) / norm.clamp_min(1e-8)
        edge = self.n_fft // 2
        return x[:, None, edge : x.shape[1] - edge]

    def noise(self, length: int, n: int = 1) -> Tensor:
        """Cells of white noise with magnitude one, the same each time: phases for n clips of this length, (n, 2, F, N)"""
        s = self.forward(torch.randn(n, 1, length, generator=torch.Generator().manual_seed(0)))
        return s / s.square().sum(1, keepdim=True).sqrt().clamp_min(1e-3)

    def agree(self, s: Tensor, steps: int, momentum: float = 0.99) -> Tensor:
        """(B, 2, F, N) with the same magnitudes and phases on which overlapping frames agree better, by fast Griffin-Lim
        (Perraudin et al., 2013, https://doi.org/10.1109/WASPAA.2013.6701851)."""
        magnitude, last = (s.square().sum(1, keepdim=True) + 1e-10).sqrt(), s
        for _ in range(steps):
            now = self.forward(self.inverse(s))
            s, last = now + momentum * (now - last), now
            s = magnitude * s / (s.square().sum(1, keepdim=True) + 1e-10).sqrt()
        return s


def frames_of(length: int, n_fft: int, hop: int) -> int:
    """How many frames an STFT makes of clips; UsageError where hops do not divide them."""
    if hop < 1 or n_fft % hop or hop > n_fft // 2 or length % hop:
        fit = min(length & -length, 512)  # a power of two that divides the clip
        raise UsageError(
            f"A clip of {length} values does not divide into hops of {hop}, or frames of {n_fft} do not, or hops are longer than half of "
            f"them: take hops of {fit} in frames of {2 * fit} or {4 * fit}, or clips of a multiple of {max(hop, 1)} values."
        )
    return length // hop + 1


class Mel(nn.Module):
    """Magnitudes in mel bands to the power 1/3, close to how loudness grows (Stevens, 1957), as a picture.

    Triangles on the HTK scale from 30 Hz up, each of which sums to one: a band is a mean, not a sum. Where the rate is so high that
    bands would lie between two bins, they are at least a bin apart, and on the HTK scale above. `inverse` gives each
    bin the mean of the bands that look at it; what lies between two bands is not told apart.

    >>> Mel(22_050, 1024, 512, 80)(torch.zeros(2, 1, 4096)).shape
    torch.Size([2, 80, 9])
    """

    def __init__(self, rate: int, n_fft: int = 1024, hop: int = 512, bands: int = 128):
        super().__init__()
        self.stft, self.bands = STFT(n_fft, hop), bands
        bank = bank_of(rate, n_fft, bands)
        if not bank.sum(1).all():
            raise UsageError(
                f"{int((bank.sum(1) == 0).sum())} of {bands} mel bands see none of the {n_fft // 2 + 1} bins; take fewer bands or a longer n_fft."
            )
        self.register_buffer("bank", bank / bank.sum(1, keepdim=True), persistent=False)
        self.register_buffer("spread", (bank / bank.sum(0).clamp_min(1e-9)).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> (B, M, N)"""
        power = self.stft(x.float()).square().sum(1)
        return (self.bank @ power + 1e-12).pow(1 / 6)

    def inverse(self, m: Tensor) -> Tensor:
        """(B, M, N) -> magnitudes of the bins to the power 1/3, (B, F, N)"""
        return (self.spread @ m.clamp_min(0).pow(6.0) + 1e-12).pow(1 / 6)


def bank_of(rate: int, n_fft: int, bands: int) -> Tensor:
    """Triangles of mel bands over the bins of an STFT, (M, F); a row of zeros for a band that sees none of them."""
    with warnings.catch_warnings(action="ignore"):  # of bands that see no bin
        bank = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, 30.0, rate / 2, bands, rate).T
    if bank.sum(1).all():
        return bank
    low, high = (2595 * math.log10(1 + f / 700) for f in (30.0, rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    for k in range(1, bands + 2):
        edges[k] = max(edges[k], edges[k - 1] + rate / n_fft)
    if edges[-2] >= rate / 2:  # more bands than bins
        return bank
    edges[-1] = rate / 2
    low, centre, high = (edges[k : bands + k, None] for k in range(3))
    f = np.arange(n_fft // 2 + 1) * rate / n_fft
    rows = np.minimum((f - low) / (centre - low), (high - f) / (high - centre)).clip(0)
    return torch.from_numpy(rows.astype(np.float32))


class Frames(nn.Module):
    """A clip as overlapping windowed frames; the inverse overlap-adds them.

    The square root of a periodic Hann window is applied on both sides, so that the inverse of untouched frames is the
    clip itself. The first half window is exempt: a window would soften the attack.

    >>> Frames(1024, 512)(torch.zeros(2, 1, 4096)).shape
    torch.Size([2, 8, 1024])
    """

    def __init__(self, size: int = 1024, hop: int = 512):
        super().__init__()
        if size != 2 * hop:
            raise ValueError(f"Frames of {size} overlap-add to a constant at a hop of {size // 2}, not {hop}.")
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size).sqrt(), persistent=False)

    def windows(self, n: int) -> Tensor:
        w = self.window.repeat(n, 1)
        w[0, : self.hop] = 1.0
        return w

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> (B, N, size) with N = T / hop; the clip's end is padded by one hop"""
        frames = F.pad(x[:, 0], (0, self.hop)).unfold(-1, self.size, self.hop)
        return frames * self.windows(frames.shape[1])

    def inverse(self, frames: Tensor) -> Tensor:
        """(B, N, size) -> (B, 1, N x hop)"""
        x = overlap_add(frames * self.windows(frames.shape[1]), self.hop)
        return x[:, None, : frames.shape[1] * self.hop]


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(B, N, size) -> (B, (N - 1) x hop + size): frames are summed at every `hop` values."""
    parts = frames.split(hop, 2)  # the first parts of all frames are one signal, the second ones another, `hop` later
    out = F.pad(parts[0], (0, 0, 0, len(parts) - 1))
    for i in range(1, len(parts)):
        out = out + F.pad(parts[i], (0, 0, i, len(parts) - 1 - i))
    return out.flatten(1)
