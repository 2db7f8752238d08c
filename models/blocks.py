"""The residual blocks: the original and the pre-activation block, each as a basic block or a bottleneck.

He et al. 2016, "Identity Mappings in Deep Residual Networks", eq. 1 and 2, call the skip path h, the residual
branch F and what follows the addition f:

    y_l = h(x_l) + F(x_l)        x_{l+1} = f(y_l)

    original        f = ReLU;      F = conv BN ReLU conv BN          (bottleneck: three convs)
    pre-activation  f = identity;  F = BN ReLU conv BN ReLU conv     (bottleneck: three convs)

Where a block keeps the shape, h is the identity and carries x_l unchanged. Where a block changes the shape, h
is a 1x1 projection. The original block projects x_l and applies BN to the result. The pre-activation block
projects ReLU(BN(x_l)), which F takes too, and applies no BN after the projection.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from models.config import BOTTLENECK_EXPANSION
from vocabulary import Block


class ConvPlan(NamedTuple):
    """The shape of one convolution; `kernel` is 1 or 3, and padding keeps the size at stride 1."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int


def residual_plan(block: str, in_channels: int, width: int, stride: int) -> list[ConvPlan]:
    """Return the convolutions of one block's residual branch.

    The 3x3 convolution of a bottleneck has the stride, as in later practice. In the authors' Torch release
    the first 1x1 convolution has it.

    Args:
        block: "basic" or "bottleneck".
        width: output channels of the 3x3 convolutions; a bottleneck ends with four times as many.
    """
    if block == Block.basic:
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
    """Return a convolution without bias, padded so that only the stride changes the size of the image."""
    return nn.Conv2d(
        plan.in_channels,
        plan.out_channels,
        plan.kernel,
        plan.stride,
        padding=plan.kernel // 2,
        bias=False,
    )


def shortcut_plan(plans: list[ConvPlan]) -> ConvPlan | None:
    """Return the 1x1 projection around these convolutions, or None where they keep the shape."""
    stride = max(plan.stride for plan in plans)
    if stride == 1 and plans[0].in_channels == plans[-1].out_channels:
        return None
    return ConvPlan(plans[0].in_channels, plans[-1].out_channels, 1, stride)


class OriginalBlock(nn.Module):
    """The original block, x_{l+1} = ReLU(h(x_l) + F(x_l)).

    Args:
        plans: the convolutions of F, as `residual_plan` gives them.
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
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        shortcut = x if self.projection is None else self.projection(x)
        return self.relu(shortcut + self.residual(x))


class PreActBlock(nn.Module):
    """The pre-activation block, x_{l+1} = x_l + F(x_l), in which nothing follows the addition.

    F is `residual(preact(x))`. The two modules are separate because the projection takes the output of
    `preact`.

    Args:
        plans: the convolutions of F, as `residual_plan` gives them.
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
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        activated = self.preact(x)
        # The identity carries x itself, because a shortcut from `activated` would put BN and ReLU on the skip
        # path of every block, and x_{l+1} = x_l + F(x_l) would no longer hold.
        shortcut = x if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)
