"""Whether a block's input is an earlier one's plus all residual branches between them.

He et al. 2016, "Identity Mappings", eq. 4: with identity skips and nothing after the addition,

    x_L = x_l + sum_{i=l}^{L-1} F(x_i)

The sum of the F is taken by itself and x_l added last: adding them to x_l one by one would repeat the
network's own additions, and no error would show whatever the rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.branches import Block, batch_statistics, blocks_of, evaluated, identity_start, norm_of
from models.resnet import ResNet


@dataclass(frozen=True)
class IdentitySum:
    """Eq. 4 between two points of a stage.

    Attributes:
        stage: 1 to 3.
        first: l; x_l is what the l-th block of the stage takes, from 1.
        last: L; one more than the stage has blocks for its output.
        error: |x_L - (x_l + sum F)| / |x_L|, norms over the whole batch.
    """

    stage: int
    first: int
    last: int
    error: float


def identity_sums(model: ResNet, images: Tensor) -> list[IdentitySum]:
    """Eq. 4 in each stage, for every pair of: its first identity block, the next, its middle, its end.

    No block's tensors are kept, so depth costs no memory.

    Args:
        images: normalised [N, in_channels, H, W], of the model's floating type; the errors are as fine.
    """
    found = []
    with batch_statistics(model), torch.no_grad():
        x = model.stem(images)
        for stage, blocks in enumerate(blocks_of(model), start=1):
            sums, x = _sums_in_stage(stage, blocks, x)
            found += sums
    return found


def _sums_in_stage(stage: int, blocks: list[Block], x: Tensor) -> tuple[list[IdentitySum], Tensor]:
    points = _points(blocks)
    begun: dict[int, tuple[Tensor, Tensor]] = {}
    found = []
    for number in range(1, len(blocks) + 2):
        if number in points:
            found += [
                IdentitySum(stage, first, number, norm_of(x - (start + total)) / norm_of(x))
                for first, (start, total) in begun.items()
            ]
            begun[number] = (x, torch.zeros_like(x))
        if number <= len(blocks):
            output, residual, _ = evaluated(blocks[number - 1], x)
            if number >= points[0]:
                begun = {first: (start, total + residual) for first, (start, total) in begun.items()}
            x = output
    return found, x


def _points(blocks: list[Block]) -> list[int]:
    """The l and L of a stage, from 1, ascending."""
    first, end = identity_start(blocks) + 1, len(blocks) + 1
    return sorted({first, min(first + 1, end), (first + end) // 2, end})
