"""Activation checkpointing: keep the input of each segment of blocks, compute the rest again.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost": of n blocks in segments of √n, 2√n
outputs are held at a time instead of n, for one more forward pass. What is computed again is the same
to the bit, so the weights are those of a training without it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import ceil, sqrt

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.resnet import ResNet


class RecomputedStage(nn.Sequential):
    """A stage whose blocks are computed again in the backward pass, √n at a time.

    A Sequential of the same blocks under the same names, so that weights keep theirs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W'], as the plain stage."""
        blocks = list(self)
        size = ceil(sqrt(len(blocks)))
        for start in range(0, len(blocks), size):
            segment = nn.Sequential(*blocks[start : start + size])
            if self.training and torch.is_grad_enabled():
                # No dropout anywhere: there is no random state to keep.
                x = checkpoint(
                    segment,
                    x,
                    use_reentrant=False,
                    preserve_rng_state=False,
                    context_fn=partial(_forward_and_again, segment),
                )
            else:
                x = segment(x)
        return x


def recompute_stages(model: ResNet) -> None:
    """Replace the stages of `model` by recomputed ones, in place."""
    for number, stage in enumerate(model.stages(), start=1):
        setattr(model, f"stage{number}", RecomputedStage(*stage))


def activation_bytes(
    model: ResNet, images: Tensor, batch_size: int, autocast: AbstractContextManager[object]
) -> int:
    """Bytes a training step holds between forward and backward pass.

    Measured on a few images and scaled to the batch. Running statistics stay as they are.

    Args:
        images: float32 [N, C, H, W], N >= 2.
        batch_size: of the training.
        autocast: the precision of the training, as a context.
    """
    sizes: dict[int, int] = {}
    # Held to the end, so that no address is used twice.
    kept: list[Tensor] = []
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def weigh(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor)
    with _statistics_kept(model), autocast, hooks:
        model(images)
    return sum(size for address, size in sizes.items() if address not in weights) * batch_size // len(images)


def _forward_and_again(
    segment: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(segment)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let BN compute on batch statistics without moving the running ones a second time.

    By a momentum of 0: without running statistics BN would keep other tensors for the backward pass.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    counters = [layer.get_buffer("num_batches_tracked") for layer in layers]
    before = [(layer.momentum, counter.clone()) for layer, counter in zip(layers, counters, strict=True)]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, counter, (momentum, batches) in zip(layers, counters, before, strict=True):
            layer.momentum = momentum
            counter.copy_(batches)
