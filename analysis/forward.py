"""Whether the input of a block is the input of an earlier block plus all residual branches between the two.

He et al. 2016, "Identity Mappings", eq. 4, state for identity skips and nothing after the addition:

    x_L = x_l + sum_{i=l}^{L-1} F(x_i)

The F are summed first and x_l is added last. Adding the F to x_l one by one would repeat the additions of the
network in the same order, and no error would show, however coarse the rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.branches import Block, batch_statistics, blocks_of, evaluated, identity_start, norm_of
from models.resnet import ResNet


@dataclass(frozen=True)
class IdentitySum:
    """How well eq. 4 holds between two points of a stage.

    Attributes:
        stage: the number of the stage, 1 to 3.
        first: l, where x_l is the input of the l-th block of the stage, from 1.
        last: L, which is the number of blocks plus 1 for the output of the stage.
        error: |x_L - (x_l + sum F)| / |x_L|, with norms over the whole batch.
    """

    stage: int
    first: int
    last: int
    error: float


def identity_sums(model: ResNet, images: Tensor) -> list[IdentitySum]:
    """Return how well eq. 4 holds in each stage, between four points of the stage.

    The points are the first identity block, the block after that, the middle and the end of the stage; every
    pair is measured. No tensors of a block are kept, so that the memory does not grow with the depth.

    Args:
        images: normalised images [N, in_channels, H, W] of the floating type of the model, which bounds how
            small an error can be.
    """
    pairs = []
    with batch_statistics(model), torch.no_grad():
        x = model.stem(images)
        for stage, blocks in enumerate(blocks_of(model), start=1):
            sums, x = _sums_in_stage(stage, blocks, x)
            pairs += sums
    return pairs


def _sums_in_stage(stage: int, blocks: list[Block], x: Tensor) -> tuple[list[IdentitySum], Tensor]:
    points = _points(blocks)
    begun: dict[int, tuple[Tensor, Tensor]] = {}
    pairs = []
    for number in range(1, len(blocks) + 2):
        if number in points:
            pairs += [
                IdentitySum(stage, first, number, norm_of(x - (start + total)) / norm_of(x))
                for first, (start, total) in begun.items()
            ]
            begun[number] = (x, torch.zeros_like(x))
        if number <= len(blocks):
            output, residual, _ = evaluated(blocks[number - 1], x)
            if number >= points[0]:
                begun = {first: (start, total + residual) for first, (start, total) in begun.items()}
            x = output
    return pairs, x


def _points(blocks: list[Block]) -> list[int]:
    """Return the points l and L of a stage, from 1, in ascending order."""
    first, end = identity_start(blocks) + 1, len(blocks) + 1
    return sorted({first, min(first + 1, end), (first + end) // 2, end})
