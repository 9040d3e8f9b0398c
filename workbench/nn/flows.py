"""Normalizing flows between a latent and noise: the one file that imports nflows."""

import math
from collections.abc import Callable

import torch
from nflows.nn.nets import ResidualNet
from nflows.transforms import CompositeTransform, Permutation
from nflows.transforms.coupling import AffineCouplingTransform, PiecewiseRationalQuadraticCouplingTransform
from torch import Tensor, nn

from workbench.errors import UsageError

__all__ = ["KINDS", "Flow"]

KINDS = ("realnvp", "spline")


class Flow(nn.Module):
    r"""A bijection built of coupling layers, with fixed random permutations between them.

    `forward` takes data to noise, `inverse` noise to data; each also returns :math:`\log |\det J|` of its own
    direction. A flow starts as the identity, so that on top of a simpler density it never starts below it.

    Density estimation using Real NVP (Dinh et al., 2017), https://arxiv.org/abs/1605.08803;
    Neural spline flows (Durkan et al., 2019), https://arxiv.org/abs/1906.04032

    Arguments:
        kind: "realnvp" (affine couplings) or "spline" (rational-quadratic couplings, linear beyond +-4).
        features: size L of the latent, at least 2.
        context: size of the conditioning vector; 0 for none.
        layers, hidden, dropout: couplings, width of their networks, and the networks' dropout.

    >>> flow = Flow("spline", 8)
    >>> u, ladj = flow(torch.randn(3, 8)); flow.inverse(u)[0].shape, ladj.shape
    (torch.Size([3, 8]), torch.Size([3]))
    """

    def __init__(
        self, kind: str, features: int, context: int = 0, layers: int = 6, hidden: int = 128, dropout: float = 0.0
    ):
        super().__init__()
        if kind not in KINDS:
            raise UsageError(f"There is no flow '{kind}'; known are {', '.join(KINDS)}.")
        if features < 2:
            raise UsageError(
                f"A coupling flow splits a latent in two, but this one has {features} dimension; use at least 2."
            )
        generator = torch.Generator().manual_seed(features)
        transforms, order = [], torch.arange(features)
        for i in range(layers):
            mask = (torch.arange(features) + i) % 2
            net = coupling_net(context, hidden, dropout)
            coupling = (AffineCoupling if kind == "realnvp" else SplineCoupling)(mask, net)
            coupling.start_as_identity()
            shuffle = torch.randperm(features, generator=generator)
            transforms, order = [*transforms, coupling, Permutation(shuffle)], order[shuffle]
        self.transforms = CompositeTransform([*transforms, Permutation(order.argsort())])

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """data (B, L) -> noise (B, L), ladj (B,)"""
        return self.transforms(z, c)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """noise (B, L) -> data (B, L), ladj (B,)"""
        return self.transforms.inverse(u, c)


class AffineCoupling(AffineCouplingTransform):
    """nflows' coupling scales by at most 1.001, which can only ever concentrate; here by exp(-2) ... exp(2)."""

    def _scale_and_shift(self, params: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = params.chunk(2, dim=1)
        return (2 * torch.tanh(log_scale / 2)).exp(), shift

    def start_as_identity(self) -> None:
        for p in self.transform_net.final_layer.parameters():
            nn.init.zeros_(p)


class SplineCoupling(PiecewiseRationalQuadraticCouplingTransform):
    """Eight bins between -4 and 4; they are equal and of slope one at the start."""

    def __init__(self, mask: Tensor, net: Callable[[int, int], nn.Module]):
        super().__init__(mask, net, num_bins=8, tails="linear", tail_bound=4.0)

    def start_as_identity(self) -> None:
        last = self.transform_net.final_layer
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        # The slope at a knot is softplus(b) + min_derivative.
        last.bias.data.view(-1, 23)[:, 16:] = math.log(math.expm1(1 - self.min_derivative))


def coupling_net(context: int, hidden: int, dropout: float) -> Callable[[int, int], nn.Module]:
    def create(inputs: int, outputs: int) -> nn.Module:
        return ResidualNet(inputs, outputs, hidden, context or None, num_blocks=1, dropout_probability=dropout)

    return create
