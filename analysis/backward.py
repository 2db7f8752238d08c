"""The gradient at every block, and what of it comes along the skip path.

He et al. 2016, "Identity Mappings", eq. 5: with identity skips and nothing after the addition,

    dE/dx_l = dE/dx_L (1 + d/dx_l sum_{i=l}^{L-1} F(x_i))

L is the end of the stage, so g_L = dE/dx_L reaches every block of it as it is. With v_i = dE/dx_{i+1} at the
output of block i, and J_i the derivative of x_{i+1} by x_i along the skip path alone, F held constant:

    skip term       s_l = J_l J_{l+1} ... J_{L-1} g_L     pre-activation: J = 1 and s_l = g_L
    branch term     b_i = F'(x_i)^T dE/dF(x_i)            pre-activation: dE/dF = v_i
    eq. 5 as sums   g_l = g_L + sum_{i=l}^{L-1} b_i

In the original block J_i is 1 where the ReLU after the addition lets an element through and 0 where it does
not, and then the element passes on nothing, neither along the skip path nor into F: a dead path.
All of it comes from differentiating the blocks themselves; nothing is assumed of their variant.
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
    """The gradient at one block's input; None where the block has a projection, or one follows in its stage.

    Attributes:
        stage: 1 to 3.
        block: in its stage, from 1.
        norm: |g_l|, over the whole batch, of the batch's mean loss.
        skip_norm: |s_l| / |g_l|, how large the skip term is beside the whole; None where g_l is 0.
        skip_share: <g_l, s_l> / |g_l|^2. As g_l = s_l + (all that went through some F), the shares of the two
            add up to 1, which no ratio of norms does; below 0, or above 1, where the two terms oppose.
            None where g_l is 0.
        dead: fraction of the elements of x_l whose skip path this block closes (J_l = 0).
        dead_to_end: fraction whose skip path is closed somewhere from here to the end of the stage.
        error: |g_l - (g_L + sum b_i)| / |g_l|; over |g_L| where g_l is 0, and 0 where both are.
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
    """What is carried from the end of a stage to its beginning."""

    gradient: Tensor
    end: Tensor
    skip: Tensor
    open: Tensor
    branches: Tensor


def block_gradients(model: ResNet, images: Tensor, labels: Tensor) -> tuple[float, list[BlockGradient]]:
    """Mean cross-entropy of a batch, and its gradient at the input of every block.

    The blocks are run once for their inputs, which are kept, and once more one by one on the way back: memory
    holds the stream and the inside of a single block.

    Args:
        images: normalised [N, in_channels, H, W], of the model's floating type.
        labels: int64 [N].

    Raises:
        CheckFailed: the loss or a gradient is not finite.
    """
    with batch_statistics(model):
        inputs, end = _stream(model, images)
        end.requires_grad_()
        loss = cross_entropy(model.classifier(model.flatten(model.pool(model.head(end)))), labels)
        (gradient,) = grad(loss, end)
        found: list[BlockGradient] = []
        for stage, blocks in reversed(list(enumerate(blocks_of(model), start=1))):
            own, gradient = _gradients_in_stage(stage, blocks, inputs.pop(), gradient)
            found = own + found
    _check(loss, found)
    return float(loss.detach()), found


def _stream(model: ResNet, images: Tensor) -> tuple[list[list[Tensor]], Tensor]:
    """x_l for each block of each stage, and the output of the last block."""
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
    """The rows of a stage, and the gradient at its input; empties `inputs`."""
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
    """One block with an identity skip; moves `walk` from its output to its input."""
    along_skip = [_along_skip(parts, x, v) for v in (walk.skip, walk.open, torch.ones_like(walk.open))]
    walk.skip, walk.open, own = along_skip
    skip, branch = _terms(parts, x, walk.gradient)
    walk.gradient = skip + branch
    walk.branches = walk.branches + branch
    norm = norm_of(walk.gradient)
    # Where both are 0, so is every term of the sum.
    beside = norm or norm_of(walk.end) or 1
    return BlockGradient(
        stage,
        block,
        norm,
        skip_norm=norm_of(walk.skip) / norm if norm else None,
        skip_share=float((walk.gradient * walk.skip).sum()) / norm**2 if norm else None,
        dead=_zeros(own),
        dead_to_end=_zeros(walk.open),
        error=norm_of(walk.gradient - (walk.end + walk.branches)) / beside,
    )


def _terms(parts: Evaluated, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """What reaches x_l along the skip path and through F, of the gradient at x_{l+1}."""
    skip, at_branch = grad(parts.output, (x, parts.cut), gradient, retain_graph=True)
    (branch,) = grad(parts.residual, x, at_branch, retain_graph=True)
    return skip, branch


def _along_skip(parts: Evaluated, x: Tensor, gradient: Tensor) -> Tensor:
    (skip,) = grad(parts.output, x, gradient, retain_graph=True)
    return skip


def _zeros(tensor: Tensor) -> float:
    """Fraction of elements that are 0; exact for dead paths, as an identity skip works element by element."""
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
