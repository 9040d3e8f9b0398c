"""Discriminators, and the distance between their features."""

import abc
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.nn.representations import STFT

__all__ = ["Discriminator", "SpectralDiscriminator", "feature_distance"]


class Discriminator(nn.Module, abc.ABC):
    """Tells real clips from made ones; training steps it in turn with the generator."""

    @abc.abstractmethod
    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator itself minimises."""


class SpectralDiscriminator(Discriminator):
    """Small 2-D convolutions over the complex STFT at several resolutions, trained with the hinge loss.

    Multi-scale STFT discriminator after Défossez et al., 2022 (EnCodec), https://arxiv.org/abs/2210.13438

    Arguments:
        scales: window lengths; channels: width of every layer.
    """

    def __init__(self, scales: Sequence[int] = (1024, 256), channels: int = 16):
        super().__init__()
        self.views = nn.ModuleList(STFT(n, n // 2) for n in scales)

        def net() -> nn.ModuleList:
            layers = [nn.Conv2d(2, channels, (9, 3), stride=(4, 1), padding=(4, 1))]
            layers += [nn.Conv2d(channels, channels, (9, 3), stride=(4, 2), padding=(4, 1)) for _ in range(2)]
            return nn.ModuleList([*layers, nn.Conv2d(channels, 1, 3, padding=1)])

        self.nets = nn.ModuleList(net() for _ in scales)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(B, 1, T) -> for each resolution its layers' outputs, the last of them the scores"""
        out = []
        for view, net in zip(self.views, self.nets, strict=True):
            # The window's energy is divided out: a sound of unit power is of order one at every resolution.
            h, layers = view(x) / view.window.square().sum().sqrt(), []
            for i, layer in enumerate(net):
                h = layer(h if i == 0 else F.leaky_relu(h, 0.2))
                layers.append(h)
            out.append(layers)
        return out

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        pairs = zip(self(real), self(fake), strict=True)
        return sum(F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in pairs) / len(self.nets)

    def generator_losses(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What the generator minimises: minus the scores of its clips, and the distance between features."""
        with torch.no_grad():
            a = self(real)
        b = self(fake)
        return -sum(f[-1].mean() for f in b) / len(b), feature_distance(a, b)


def feature_distance(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Mean relative L1 distance of all layers but the scores (feature matching: Larsen et al., 2016, arXiv 1512.09300)."""
    pairs = [(a, b) for r, f in zip(real, fake, strict=True) for a, b in zip(r[:-1], f[:-1], strict=True)]
    return torch.stack([(a - b).abs().mean() / (a.abs().mean() + 1e-6) for a, b in pairs]).mean()
