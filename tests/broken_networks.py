"""Pre-activation networks with a mistake on the skip path, which the measurements must show."""

import torch
from torch import Tensor
from torch.nn.functional import relu

from models.blocks import PreActBlock
from models.config import resnet_config
from models.resnet import ResNet


class ReluOnTheSkip(PreActBlock):
    def forward(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            return super().forward(x)
        return relu(x) + self.residual(self.preact(x))


class SkipFromTheActivated(PreActBlock):
    """The widely copied mistake: BN and ReLU on the skip path of every block."""

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        shortcut = activated if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)


class HalvedSkip(PreActBlock):
    """h(x) = x / 2, the constant scaling of section 3.1 of the paper."""

    def forward(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            return super().forward(x)
        return x / 2 + self.residual(self.preact(x))


MISTAKES = [ReluOnTheSkip, SkipFromTheActivated, HalvedSkip]


def network(variant: str, depth: int = 20, block: str | None = None, seed: int = 0) -> ResNet:
    """Initialised, float64."""
    torch.manual_seed(seed)
    return ResNet(resnet_config(variant, depth, block)).double()


def broken(mistake: type[PreActBlock], stage: int | None = None, block: int | None = None) -> ResNet:
    """A pre-activation ResNet-20 with a mistake in one block (indices from 0), or in all."""
    model = network("preact")
    for number, blocks in enumerate(model.stages()):
        for index, own in enumerate(blocks):
            if stage in (None, number) and block in (None, index):
                own.__class__ = mistake
    return model


def batch(count: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.randint(10, (count,), generator=generator)
