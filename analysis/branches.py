"""A residual block, evaluated so that the skip path and the residual branch can be differentiated separately.

He et al. 2016, "Identity Mappings in Deep Residual Networks", eq. 1 and 2, write a block as

    y_l = h(x_l) + F(x_l)        x_{l+1} = f(y_l)

where h is the identity, except in a first block of a stage that changes the shape. Eq. 4 and 5 hold only
after such a block, so that each stage is measured from the first block whose h is the identity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.blocks import OriginalBlock, PreActBlock
from models.resnet import ResNet

Block = OriginalBlock | PreActBlock


class Evaluated(NamedTuple):
    """The forward pass of one block, cut after F.

    Attributes:
        output: x_{l+1}, which depends on `cut`, and on x_l along the skip path alone.
        residual: F(x_l), which depends on x_l.
        cut: the values of `residual` as a leaf tensor, which takes the place of `residual` in `output`.
    """

    output: Tensor
    residual: Tensor
    cut: Tensor


def evaluated(block: Block, x: Tensor) -> Evaluated:
    """Run a block on x_l [N, C, H, W], without assumptions about what the block does with F(x_l)."""
    residual_and_cut: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, residual: Tensor) -> Tensor:
        residual_and_cut.extend((residual, residual.detach().requires_grad_()))
        return residual_and_cut[1]

    hook = block.residual.register_forward_hook(cut)
    try:
        output = block(x)
    finally:
        hook.remove()
    return Evaluated(output, *residual_and_cut)


def blocks_of(model: ResNet) -> list[list[Block]]:
    """Return the residual blocks of each stage."""
    return [[cast(Block, block) for block in stage] for stage in model.stages()]


def identity_start(blocks: list[Block]) -> int:
    """Return the index of the first block after the last projection of a stage.

    If the last block has the projection, the index is the number of blocks.
    """
    return max((n for n, block in enumerate(blocks, 1) if block.projection is not None), default=0)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let BN use the statistics of the batch, as in training, without a change of the running statistics.

    Gradients pass through the statistics of the batch. The running statistics would not do, because at
    initialisation (mean 0, variance 1) they would let the stream double in every block.
    """
    modes = [(module, module.training) for module in model.modules()]
    tracking = [(m, m.track_running_stats) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model.train()
    try:
        for norm, _ in tracking:
            norm.track_running_stats = False
        yield
    finally:
        for norm, tracked in tracking:
            norm.track_running_stats = tracked
        for module, training in modes:
            module.training = training


def norm_of(tensor: Tensor) -> float:
    """Return the root of the sum of squares over the whole batch."""
    return float(torch.linalg.vector_norm(tensor.detach()))
