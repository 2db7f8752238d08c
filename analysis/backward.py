"""The gradient at every block, and the part of the gradient that comes along the skip path.

He et al. 2016, "Identity Mappings", eq. 5, state for identity skips and nothing after the addition:

    dE/dx_l = dE/dx_L (1 + d/dx_l sum_{i=l}^{L-1} F(x_i))

L is the end of the stage, so that g_L = dE/dx_L reaches every block of the stage unchanged. Let v_i =
dE/dx_{i+1} be the gradient at the output of block i, and J_i the derivative of x_{i+1} by x_i along the skip
path, with F constant:

    skip term       s_l = J_l J_{l+1} ... J_{L-1} g_L     pre-activation: J = 1 and s_l = g_L
    branch term     b_i = F'(x_i)^T dE/dF(x_i)            pre-activation: dE/dF = v_i
    eq. 5 as sums   g_l = g_L + sum_{i=l}^{L-1} b_i

In the original block J_i is 1 where the ReLU after the addition lets an element through. Where the ReLU does
not, J_i is 0 and the element passes on no gradient, neither along the skip path nor into F. That is a dead
path. All terms come from differentiating the blocks, without assumptions about the variant.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import cross_entropy

from analysis.branches import (
    Block,
    Evaluated,
    batch_statistics,
    blocks_of,
    evaluated,
    identity_start,
    norm_of,
)
from errors import CheckFailed
from models.resnet import ResNet


@dataclass(frozen=True)
class BlockGradient:
    """The gradient at the input of one block.

    Attributes from `skip_norm` on are None if this block or a later block of the stage has a projection.

    Attributes:
        stage: the number of the stage, 1 to 3.
        block: the number of the block in the stage, from 1.
        norm: |g_l| over the whole batch, where E is the mean loss of the batch.
        skip_norm: |s_l| / |g_l|, the norm of the skip term over that of the gradient. None if g_l is 0.
        skip_share: <g_l, s_l> / |g_l|^2. The gradient g_l is s_l plus all that went through some F, so that
            the shares of the two terms add up to 1, which ratios of norms do not. A share below 0 or above 1
            means that the two terms oppose each other. None if g_l is 0.
        dead: the fraction of the elements of x_l whose skip path this block closes (J_l = 0).
        dead_to_end: the fraction whose skip path some block closes, from this one to the end of the stage.
        error: |g_l - (g_L + sum b_i)| / |g_l|. The denominator is |g_L| if g_l is 0, and the error is 0 if
            both are 0.
    """

    stage: int
    block: int
    norm: float
    skip_norm: float | None = None
    skip_share: float | None = None
    dead: float | None = None
    dead_to_end: float | None = None
    error: float | None = None


@dataclass
class _Walk:
    """The gradients and sums that are carried from the end of a stage to the beginning."""

    gradient: Tensor
    end: Tensor
    skip: Tensor
    open: Tensor
    branches: Tensor


def block_gradients(model: ResNet, images: Tensor, labels: Tensor) -> tuple[float, list[BlockGradient]]:
    """Return the mean cross-entropy of a batch, and the gradient of it at the input of every block.

    All blocks run once for their inputs, which are kept, and on the way back each block runs once more.
    Therefore the memory holds the stream and the activations of a single block.

    Args:
        images: normalised images [N, in_channels, H, W] of the floating type of the model.
        labels: int64 [N].

    Raises:
        CheckFailed: the loss or a gradient is not finite.
    """
    with batch_statistics(model):
        inputs, end = _stream(model, images)
        end.requires_grad_()
        loss = cross_entropy(model.classifier(model.flatten(model.pool(model.head(end)))), labels)
        (gradient,) = grad(loss, end)
        rows: list[BlockGradient] = []
        for stage, blocks in reversed(list(enumerate(blocks_of(model), start=1))):
            rows_of_stage, gradient = _gradients_in_stage(stage, blocks, inputs.pop(), gradient)
            rows = rows_of_stage + rows
    _check(loss, rows)
    return float(loss.detach()), rows


def _stream(model: ResNet, images: Tensor) -> tuple[list[list[Tensor]], Tensor]:
    """Return x_l for each block of each stage, and the output of the last block."""
    inputs: list[list[Tensor]] = []
    with torch.no_grad():
        x = model.stem(images)
        for blocks in blocks_of(model):
            inputs.append([])
            for block in blocks:
                inputs[-1].append(x)
                x = block(x)
    return inputs, x


def _gradients_in_stage(
    stage: int, blocks: list[Block], inputs: list[Tensor], gradient: Tensor
) -> tuple[list[BlockGradient], Tensor]:
    """Return the rows of a stage and the gradient at the input of the stage; `inputs` is empty afterwards."""
    start = identity_start(blocks)
    walk = _Walk(gradient, gradient, gradient, torch.ones_like(gradient), torch.zeros_like(gradient))
    rows = []
    for index in reversed(range(len(blocks))):
        x = inputs.pop().requires_grad_()
        parts = evaluated(blocks[index], x)
        if index < start:
            walk.gradient = torch.add(*_terms(parts, x, walk.gradient))
            rows.append(BlockGradient(stage, index + 1, norm_of(walk.gradient)))
        else:
            rows.append(_identity_row(stage, index + 1, parts, x, walk))
    return rows[::-1], walk.gradient


def _identity_row(stage: int, block: int, parts: Evaluated, x: Tensor, walk: _Walk) -> BlockGradient:
    """Return the row of a block with an identity skip, and move `walk` from the output to the input."""
    along_skip = [_along_skip(parts, x, v) for v in (walk.skip, walk.open, torch.ones_like(walk.open))]
    walk.skip, walk.open, open_in_block = along_skip
    skip, branch = _terms(parts, x, walk.gradient)
    walk.gradient = skip + branch
    walk.branches = walk.branches + branch
    norm = norm_of(walk.gradient)
    # If both norms are 0, every term of the sum is 0 too, and so is the error.
    reference = norm or norm_of(walk.end) or 1
    return BlockGradient(
        stage,
        block,
        norm,
        skip_norm=norm_of(walk.skip) / norm if norm else None,
        skip_share=float((walk.gradient * walk.skip).sum()) / norm**2 if norm else None,
        dead=_zeros(open_in_block),
        dead_to_end=_zeros(walk.open),
        error=norm_of(walk.gradient - (walk.end + walk.branches)) / reference,
    )


def _terms(parts: Evaluated, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two parts of dE/dx_l, given dE/dx_{l+1}: along the skip path, and through F."""
    skip, at_branch = grad(parts.output, (x, parts.cut), gradient, retain_graph=True)
    (branch,) = grad(parts.residual, x, at_branch, retain_graph=True)
    return skip, branch


def _along_skip(parts: Evaluated, x: Tensor, gradient: Tensor) -> Tensor:
    (skip,) = grad(parts.output, x, gradient, retain_graph=True)
    return skip


def _zeros(tensor: Tensor) -> float:
    """Return the fraction of elements that are 0.

    The fraction of dead paths is exact, because an identity skip works element by element.
    """
    return float((tensor == 0).double().mean())


def _check(loss: Tensor, rows: list[BlockGradient]) -> None:
    if not torch.isfinite(loss):
        raise CheckFailed("the loss of the network is not finite", "train it again with a lower --peak-rate")
    for row in rows:
        if not math.isfinite(row.norm):
            raise CheckFailed(
                f"the gradient at block {row.block} of stage {row.stage} is not finite",
                "train the network again with a lower --peak-rate",
            )
