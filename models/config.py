"""Names and numbers to configurations: which depth is which network.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, gives the plan of every
CIFAR ResNet: a 3x3 stem of 16 channels, then three stages of n blocks at 32, 16 and 8 pixels, then
average pooling and one linear layer. Counting layers with weights,

    basic block, two 3x3 convolutions        depth = 6 n + 2
    bottleneck, 1x1, 3x3, 1x1 convolutions   depth = 9 n + 2
"""

from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError

VARIANTS = ("original", "preact")
BLOCKS = ("basic", "bottleneck")

STEM_CHANNELS = 16
STAGE_WIDTHS = (16, 32, 64)
LAYERS_PER_BLOCK = {"basic": 2, "bottleneck": 3}
BOTTLENECK_EXPANSION = 4

# 20, 56, 110, 164 and others fit both formulas; the papers' own choice decides.
PAPER_BLOCK = {
    20: "basic", 32: "basic", 44: "basic", 56: "basic", 110: "basic", 1202: "basic",
    29: "bottleneck", 47: "bottleneck", 83: "bottleneck", 164: "bottleneck", 1001: "bottleneck",
}  # fmt: skip


@dataclass(frozen=True)
class ResNetConfig:
    """Everything needed to build a network; made by `resnet_config`, which checks it."""

    variant: str
    depth: int
    block: str
    num_classes: int = 10
    in_channels: int = 3

    @property
    def blocks_per_stage(self) -> int:
        """N of the depth formula."""
        return (self.depth - 2) // (len(STAGE_WIDTHS) * LAYERS_PER_BLOCK[self.block])

    @property
    def expansion(self) -> int:
        """Output channels of a block over its width."""
        return BOTTLENECK_EXPANSION if self.block == "bottleneck" else 1

    @property
    def projections(self) -> int:
        """Number of stages whose first block changes the shape, and so needs a projection."""
        return 3 if self.block == "bottleneck" else 2

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `resnet_config(**fields)` gives the configuration back."""
        return asdict(self)


def fits(depth: int, block: str) -> bool:
    """Whether `depth` is 6n+2 (basic) or 9n+2 (bottleneck) for some n >= 1."""
    layers = len(STAGE_WIDTHS) * LAYERS_PER_BLOCK[block]
    return depth > 2 and (depth - 2) % layers == 0


def nearest_depths(depth: int, block: str) -> list[int]:
    """The valid depths next to `depth`, below and above, shallowest first."""
    layers = len(STAGE_WIDTHS) * LAYERS_PER_BLOCK[block]
    n = max(1, (depth - 2) // layers)
    return [layers * n + 2, layers * (n + 1) + 2]


def default_block(depth: int) -> str:
    """The block the papers use at this depth, else the one whose formula fits.

    Raises:
        UserError: no formula fits; the message lists the nearest depths of both.
    """
    if depth in PAPER_BLOCK:
        return PAPER_BLOCK[depth]
    for block in BLOCKS:
        if fits(depth, block):
            return block
    raise UserError(
        f"no CIFAR ResNet has depth {depth} (basic blocks give 6n+2, bottlenecks 9n+2)",
        f"nearest depths: {_listed(nearest_depths(depth, 'basic'))} basic, "
        f"{_listed(nearest_depths(depth, 'bottleneck'))} bottleneck",
    )


def resnet_config(
    variant: str,
    depth: int,
    block: str | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
) -> ResNetConfig:
    """A checked configuration.

    Args:
        variant: "original" (post-activation) or "preact".
        depth: number of layers with weights.
        block: "basic" or "bottleneck"; the papers' choice for this depth if None.

    Raises:
        UserError: an unknown name, or a depth that no n gives.
    """
    if variant not in VARIANTS:
        raise UserError(f"unknown variant '{variant}'", f"use {_listed(VARIANTS)}")
    if block is None:
        block = default_block(depth)
    if block not in BLOCKS:
        raise UserError(f"unknown block '{block}'", f"use {_listed(BLOCKS)}")
    if not fits(depth, block):
        raise UserError(
            f"no ResNet of {block} blocks has depth {depth}",
            f"nearest depths: {_listed(nearest_depths(depth, block))}",
        )
    if num_classes < 2 or in_channels < 1:
        raise UserError(
            f"{num_classes} classes and {in_channels} input channels make no classifier",
            "use at least 2 classes and 1 channel",
        )
    return ResNetConfig(variant, depth, block, num_classes, in_channels)


def _listed(values: Any) -> str:
    return " or ".join(str(value) for value in values)
