"""The configuration of a network, made from its variant, depth and block.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, gives the plan of every
CIFAR ResNet: a 3x3 stem of 16 channels, then three stages of n blocks at 32, 16 and 8 pixels, then
average pooling and one linear layer. The depth is the number of layers with weights on the main path:

    basic block, two 3x3 convolutions        depth = 6 n + 2
    bottleneck, 1x1, 3x3, 1x1 convolutions   depth = 9 n + 2
"""

from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError
from vocabulary import Block, Variant

VARIANTS = tuple(Variant)
BLOCKS = tuple(Block)

STEM_CHANNELS = 16
STAGE_WIDTHS = (16, 32, 64)
LAYERS_PER_BLOCK: dict[str, int] = {Block.basic: 2, Block.bottleneck: 3}
BOTTLENECK_EXPANSION = 4

# Some depths, such as 20, 56, 110 and 164, fit both formulas. There the choice of the papers decides.
PAPER_BLOCK = dict.fromkeys((20, 32, 44, 56, 110, 1202), Block.basic) | dict.fromkeys(
    (29, 47, 83, 164, 1001), Block.bottleneck
)


@dataclass(frozen=True)
class ResNetConfig:
    """Everything that is needed to build a network.

    `resnet_config` makes a configuration and checks that a network of these fields exists.
    """

    variant: str
    depth: int
    block: str
    num_classes: int = 10
    in_channels: int = 3

    @property
    def blocks_per_stage(self) -> int:
        """The number of blocks in each stage, which is n in the depth formula."""
        return (self.depth - 2) // (len(STAGE_WIDTHS) * LAYERS_PER_BLOCK[self.block])

    @property
    def expansion(self) -> int:
        """How many output channels a block has for each channel of its width: 4 in a bottleneck, else 1."""
        return BOTTLENECK_EXPANSION if self.block == Block.bottleneck else 1

    @property
    def projections(self) -> int:
        """The number of stages whose first block changes the shape and therefore has a projection."""
        return 3 if self.block == Block.bottleneck else 2

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; `resnet_config(**fields)` makes the configuration again."""
        return asdict(self)


def fits(depth: int, block: str) -> bool:
    """Return whether `depth` is 6n+2 (basic) or 9n+2 (bottleneck) for some n >= 1."""
    layers = len(STAGE_WIDTHS) * LAYERS_PER_BLOCK[block]
    return depth > 2 and (depth - 2) % layers == 0


def nearest_depths(depth: int, block: str) -> list[int]:
    """Return the two valid depths on either side of `depth`, the shallower one first.

    Depths below the smallest network have its depth, 8 or 11, as their first neighbour.
    """
    layers = len(STAGE_WIDTHS) * LAYERS_PER_BLOCK[block]
    n = max(1, (depth - 2) // layers)
    return [layers * n + 2, layers * (n + 1) + 2]


def default_block(depth: int) -> str:
    """Return the block that the papers use at this depth, or else the block whose formula fits.

    Raises:
        UserError: neither formula fits. The message lists the nearest depths of both.
    """
    if depth in PAPER_BLOCK:
        return PAPER_BLOCK[depth]
    for block in BLOCKS:
        if fits(depth, block):
            return block
    raise UserError(
        f"no CIFAR ResNet has depth {depth} (basic blocks give 6n+2, bottlenecks 9n+2)",
        "nearest depths: "
        + ", ".join(f"{_listed(nearest_depths(depth, block))} {block}" for block in BLOCKS),
    )


def resnet_config(
    variant: str,
    depth: int,
    block: str | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
) -> ResNetConfig:
    """Return a configuration of which `ResNet` can build a network.

    Args:
        variant: one of `VARIANTS`.
        depth: the number of layers with weights on the main path.
        block: one of `BLOCKS`, or None for the block that `default_block` chooses.

    Raises:
        UserError: the variant or block is unknown, no n gives the depth, or there are fewer than 2 classes
            or no input channel.
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
