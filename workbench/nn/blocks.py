"""Blocks that two families or more are built of."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.data import Clips
from workbench.nn.representations import Mel

__all__ = ["Parts", "Residual", "Vocoder", "divisors", "down", "halving", "principal_components", "seen", "some", "up"]

SEEN = 2048  # clips at most in which a model looks for where to start


def divisors(n: int) -> str:
    """What n divides by, for a sentence: "2, 4" of 4, "1" of 1"""
    return ", ".join(str(k) for k in range(2, n + 1) if n % k == 0) or "1"


class Residual(nn.Module):
    """Dilated residual unit over (B, C, N); it starts as the identity (Fixup: Zhang et al., 2019, arXiv 1901.09321)."""

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        self.inner = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.outer = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.leaky_relu(self.inner(F.leaky_relu(x, 0.2)), 0.2))


def down(inputs: int, outputs: int, stride: int = 4) -> nn.Sequential:
    """(B, inputs, N) -> (B, outputs, N / stride)"""
    conv = nn.Conv1d(inputs, outputs, 2 * stride + 1, stride=stride, padding=stride)
    return nn.Sequential(Residual(inputs), nn.LeakyReLU(0.2), conv)


def up(inputs: int, outputs: int, stride: int = 4) -> nn.Sequential:
    """(B, inputs, N) -> (B, outputs, N x stride); the kernel is twice the stride, so that no value is favoured
    (checkerboard: Pons et al., 2021, arXiv 2010.14356)."""
    conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride, padding=stride // 2)
    return nn.Sequential(nn.LeakyReLU(0.2), conv, Residual(outputs), Residual(outputs, 3))


def halving(inputs: int, channels: Sequence[int]) -> nn.Sequential:
    """(B, inputs, N) -> (B, channels[-1], N / 2 for each of the channels, rounded up)"""
    layers = (nn.Conv1d(a, b, 5, stride=2, padding=2) for a, b in pairwise([inputs, *channels]))
    return nn.Sequential(*(nn.Sequential(layer, nn.LeakyReLU(0.2)) for layer in layers))


class Parts(nn.Module):
    """A picture (B, M, N) as parts of S frames (B K, M, S), and back; with S = N it is the only one."""

    def __init__(self, frames: int, part: int):
        super().__init__()
        self.frames, self.part, self.count = frames, part, frames // part

    def forward(self, m: Tensor) -> Tensor:
        return m.unflatten(2, (self.count, self.part)).transpose(1, 2).flatten(0, 1)

    def inverse(self, parts: Tensor, count: int) -> Tensor:
        """(B K, M, S) -> (B, M, K S), of any number K of parts"""
        return parts.unflatten(0, (parts.shape[0] // count, count)).transpose(1, 2).flatten(2)


class Vocoder(nn.Module):
    """Mel pictures (B, M, N) to sound (B, 1, T).

    Residual convolutions along time say what a band's mean hides of the magnitudes, and predict phases, as numbers added to
    those of fixed noise, which some steps of Griffin-Lim bring to agree; the inverse STFT does the rest, as in Vocos (Siuzdak,
    2023, https://arxiv.org/abs/2306.00814). It is meant to be trained against a discriminator, as MelGAN is (Kumar et al., 2019,
    https://arxiv.org/abs/1910.06711), whose upsampling by transposed convolutions takes days to learn what an STFT knows.
    """

    def __init__(self, mel: Mel, length: int, hidden: int = 256, iterations: int = 4):
        super().__init__()
        self.mel, self.iterations, self.bins = mel, iterations, mel.stft.n_fft // 2 + 1
        self.net = nn.Sequential(
            nn.Conv1d(mel.bands, hidden, 7, padding=3), *(Residual(hidden, d) for d in (1, 3, 9)), nn.LeakyReLU(0.2)
        )
        self.out = nn.Conv1d(hidden, 3 * self.bins, 1)
        self.out.weight.data *= 0.02
        nn.init.zeros_(self.out.bias)
        self.register_buffer("noise", mel.stft.noise(length), persistent=False)

    def forward(self, m: Tensor) -> Tensor:
        level = m.amax((1, 2), keepdim=True).clamp_min(1e-2)  # a quieter picture is the same sound, quieter
        m = m / level
        more, phase = self.out(self.net(m)).split([self.bins, 2 * self.bins], 1)
        magnitude = (level * F.relu(self.mel.inverse(m) + more)).pow(3.0)[:, None]
        n = m.shape[2]
        phase = self.noise.repeat(1, 1, 1, n // self.noise.shape[3] + 1)[:, :, :, :n] + phase.unflatten(
            1, (2, self.bins)
        )
        s = magnitude * phase / (phase.square().sum(1, keepdim=True) + 1e-10).sqrt()
        return self.mel.stft.inverse(self.mel.stft.agree(s, self.iterations))


def some(clips: Clips) -> Tensor:
    """Positions of a random subset of clips, so that memory stays bounded, (M,)"""
    return torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))[:SEEN].sort().values


def seen(clips: Clips, view: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """Rows (M, D) that `view` makes of `some` clips, (B, 1, T) -> rows"""
    with torch.no_grad():
        parts = (torch.from_numpy(clips.audio(r.numpy()))[:, None].to(device) for r in some(clips).split(64))
        return torch.cat([view(x).cpu() for x in parts])


def principal_components(rows: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where a model may start: (centre (D,), up (D, k), down (D, k)) of rows (M, D), which are centred in place.

    (v - centre) @ down are principal coordinates of unit variance over the rows, and coordinates @ up.T + centre is
    their way back. Few rows span fewer directions; the other columns are zero.
    """
    centre = rows.mean(0)
    _, scale, components = torch.pca_lowrank(rows.sub_(centre), min(k, len(rows) - 1), center=False, niter=3)
    scale = scale / len(rows) ** 0.5
    spare = (0, k - len(scale))
    return centre, F.pad(components * scale, spare), F.pad(components / scale, spare)
