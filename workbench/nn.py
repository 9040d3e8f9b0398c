"""Blocks that two families or more are built of."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Residual", "down", "up"]


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
