"""The residual blocks: original and pre-activation, basic and bottleneck of each.

With h the skip path, F the residual branch and f what follows the addition (He et al. 2016,
"Identity Mappings in Deep Residual Networks", eq. 1 and 2):

    y_l = h(x_l) + F(x_l)        x_{l+1} = f(y_l)

    original        f = ReLU;      F = conv BN ReLU conv BN          (bottleneck: three convs)
    pre-activation  f = identity;  F = BN ReLU conv BN ReLU conv     (bottleneck: three convs)

h is the identity, and carries the raw x_l, wherever the shape stays. Where it changes, h is a 1x1
projection: of x_l, followed by BN, in the original block; of ReLU(BN(x_l)), shared with F and bare,
in the pre-activation block.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from models.config import BOTTLENECK_EXPANSION


class ConvPlan(NamedTuple):
    """One convolution of a residual branch."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int


def residual_plan(block: str, in_channels: int, width: int, stride: int) -> list[ConvPlan]:
    """The convolutions of one block's residual branch.

    The stride of a bottleneck sits on its 3x3 convolution, as in later practice; the authors' Torch
    release strides the first 1x1.
    """
    if block == "basic":
        return [
            ConvPlan(in_channels, width, 3, stride),
            ConvPlan(width, width, 3, 1),
        ]
    return [
        ConvPlan(in_channels, width, 1, 1),
        ConvPlan(width, width, 3, stride),
        ConvPlan(width, width * BOTTLENECK_EXPANSION, 1, 1),
    ]


def convolution(plan: ConvPlan) -> nn.Conv2d:
    """A bias-free convolution that keeps the size up to its stride."""
    return nn.Conv2d(
        plan.in_channels,
        plan.out_channels,
        plan.kernel,
        plan.stride,
        padding=plan.kernel // 2,
        bias=False,
    )


def shortcut_plan(plans: list[ConvPlan]) -> ConvPlan | None:
    """The 1x1 projection around these convolutions, or None where the identity fits."""
    stride = max(plan.stride for plan in plans)
    if stride == 1 and plans[0].in_channels == plans[-1].out_channels:
        return None
    return ConvPlan(plans[0].in_channels, plans[-1].out_channels, 1, stride)


class OriginalBlock(nn.Module):
    """x_{l+1} = ReLU(h(x_l) + F(x_l)), the post-activation block.

    Args:
        plans: the convolutions of F, from `residual_plan`.
    """

    def __init__(self, plans: list[ConvPlan]) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, plan in enumerate(plans, start=1):
            layers[f"conv{number}"] = convolution(plan)
            layers[f"bn{number}"] = nn.BatchNorm2d(plan.out_channels)
            if number < len(plans):
                layers[f"relu{number}"] = nn.ReLU()
        self.residual = nn.Sequential(layers)
        self.projection: nn.Module | None = None
        if (shortcut := shortcut_plan(plans)) is not None:
            self.projection = nn.Sequential(
                OrderedDict(conv=convolution(shortcut), bn=nn.BatchNorm2d(shortcut.out_channels))
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H/stride, W/stride]."""
        shortcut = x if self.projection is None else self.projection(x)
        return self.relu(shortcut + self.residual(x))


class PreActBlock(nn.Module):
    """x_{l+1} = x_l + F(x_l), the pre-activation block; nothing follows the addition.

    F is `residual(preact(x))`. The two are apart because a projection starts between them.

    Args:
        plans: the convolutions of F, from `residual_plan`.
    """

    def __init__(self, plans: list[ConvPlan]) -> None:
        super().__init__()
        self.preact = nn.Sequential(OrderedDict(bn1=nn.BatchNorm2d(plans[0].in_channels), relu1=nn.ReLU()))
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=convolution(plans[0]))
        for number, (before, plan) in enumerate(pairwise(plans), start=2):
            layers[f"bn{number}"] = nn.BatchNorm2d(before.out_channels)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"conv{number}"] = convolution(plan)
        self.residual = nn.Sequential(layers)
        shortcut = shortcut_plan(plans)
        self.projection = None if shortcut is None else convolution(shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H/stride, W/stride]."""
        activated = self.preact(x)
        # The identity carries the raw x: a shortcut from `activated` would put BN and ReLU on the
        # skip path of every block, and x_{l+1} = x_l + F(x_l) would no longer hold.
        shortcut = x if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)
