"""Blocks that two families or more are built of."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.data import Clips

__all__ = ["Residual", "down", "principal_components", "seen", "up"]

SEEN = 2048  # clips at most in which a model looks for where to start


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


def seen(clips: Clips, view: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """Rows (M, D) that `view` makes of clips, (B, 1, T) -> rows: of a random subset, so that memory stays bounded."""
    rows = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))[:SEEN].sort().values
    with torch.no_grad():
        parts = (torch.from_numpy(clips.audio(r.numpy()))[:, None].to(device) for r in rows.split(64))
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
