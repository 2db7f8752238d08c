"""A residual block evaluated with its skip path and its residual branch held apart.

In the symbols of He et al. 2016, "Identity Mappings in Deep Residual Networks", eq. 1 and 2,

    y_l = h(x_l) + F(x_l)        x_{l+1} = f(y_l)

where h is the identity but in the first block of a stage that changes the shape. Only behind such a block do
eq. 4 and 5 hold, so each stage is measured from its first identity block on.
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
    """One block's forward pass, cut behind F.

    Attributes:
        output: x_{l+1}, a function of x_l along the skip path and of `cut`.
        residual: F(x_l), a function of x_l.
        cut: the values of `residual` as a leaf, which `output` depends on in its place.
    """

    output: Tensor
    residual: Tensor
    cut: Tensor


def evaluated(block: Block, x: Tensor) -> Evaluated:
    """Run the block itself on x_l [N, C, H, W]; nothing is assumed of what it does with F(x_l)."""
    made: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, residual: Tensor) -> Tensor:
        made.extend((residual, residual.detach().requires_grad_()))
        return made[1]

    hook = block.residual.register_forward_hook(cut)
    try:
        output = block(x)
    finally:
        hook.remove()
    return Evaluated(output, *made)


def blocks_of(model: ResNet) -> list[list[Block]]:
    """The residual blocks of each stage."""
    return [[cast(Block, block) for block in stage] for stage in model.stages()]


def identity_start(blocks: list[Block]) -> int:
    """Index of the first block behind a stage's last projection; the number of blocks if there is none."""
    return max((n for n, block in enumerate(blocks, 1) if block.projection is not None), default=0)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """BN as training sees it: by the statistics of the batch, gradients through them, running ones untouched.

    At initialisation the running statistics (mean 0, variance 1) would let the stream double in every block.
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
    """Root of the sum of squares over the whole batch."""
    return float(torch.linalg.vector_norm(tensor.detach()))
