"""Activation checkpointing: keep the input of each segment of blocks, and compute the rest again.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", divide n blocks into segments of √n. Then
at most 2√n outputs are held at a time instead of n, at the price of one more forward pass. The second forward
pass gives the same bits as the first, so that a training ends with the same weights with and without
activation checkpointing.
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
    """A stage whose blocks are computed again in the backward pass, √n blocks at a time.

    The stage is a Sequential of the same blocks under the same names, so that the weights keep their names.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W'] as the plain stage does."""
        blocks = list(self)
        size = ceil(sqrt(len(blocks)))
        for start in range(0, len(blocks), size):
            segment = nn.Sequential(*blocks[start : start + size])
            if self.training and torch.is_grad_enabled():
                # The networks have no dropout, so that no random state has to be kept for the second pass.
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
    """Replace the three stages of `model` by stages that are computed again in the backward pass."""
    for number, stage in enumerate(model.stages(), start=1):
        setattr(model, f"stage{number}", RecomputedStage(*stage))


def activation_bytes(
    model: ResNet, images: Tensor, batch_size: int, autocast: AbstractContextManager[object]
) -> int:
    """Return the bytes of activations that a training step holds between the forward and the backward pass.

    The bytes are measured on a few images and multiplied up to the batch. The running statistics of BN do not
    change.

    Args:
        images: float32 [N, C, H, W] with N >= 2.
        batch_size: the number of images that a step of this process has.
        autocast: the arithmetic of the training, as a context.
    """
    sizes: dict[int, int] = {}
    # All tensors are kept to the end, because an address that is freed could be used for another tensor.
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
    """Let BN use the statistics of the batch without updating the running statistics a second time.

    The momentum of BN is set to 0 for that. Without running statistics BN would keep other tensors for the
    backward pass, and the bytes that `activation_bytes` measures would be wrong.
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
