"""A network on one screen: the stem, three stages of residual blocks, the pooling and a linear layer."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from models.blocks import ConvPlan, OriginalBlock, PreActBlock, convolution, residual_plan
from models.config import STAGE_WIDTHS, STEM_CHANNELS, ResNetConfig
from vocabulary import Variant


class ResNet(nn.Module):
    """A CIFAR-style ResNet of either variant.

    The children are `stem`; `stage1` to `stage3`, each a Sequential of blocks; `head`, which holds BN and
    ReLU in a pre-activation network and nothing in an original one; `pool`, `flatten` and `classifier`. The
    names never change, because ONNX nodes, ranges and reports carry them.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        preact = config.variant == Variant.preact
        block_type = PreActBlock if preact else OriginalBlock

        conv = convolution(ConvPlan(config.in_channels, STEM_CHANNELS, 3, 1))
        stem: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
        if not preact:
            stem.update(bn=nn.BatchNorm2d(STEM_CHANNELS), relu=nn.ReLU())
        self.stem = nn.Sequential(stem)

        channels = STEM_CHANNELS
        for number, width in enumerate(STAGE_WIDTHS, start=1):
            stage = nn.Sequential()
            for index in range(config.blocks_per_stage):
                stride = 2 if number > 1 and index == 0 else 1
                stage.append(block_type(residual_plan(config.block, channels, width, stride)))
                channels = width * config.expansion
            self.add_module(f"stage{number}", stage)

        self.head = nn.Sequential()
        if preact:
            self.head = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(channels), relu=nn.ReLU()))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, config.num_classes)
        self.apply(_initialise)

    def stages(self) -> list[nn.Sequential]:
        """Return the three stages in order."""
        return [self.get_submodule(f"stage{n + 1}") for n in range(len(STAGE_WIDTHS))]  # type: ignore[misc]

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised float images [N, in_channels, H, W] to logits [N, num_classes]."""
        x = self.stem(images)
        for stage in self.stages():
            x = stage(x)
        return self.classifier(self.flatten(self.pool(self.head(x))))


def initialised(config: ResNetConfig, seed: int) -> ResNet:
    """Return a network with the initial weights of `seed`; the caller's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(config)


def _initialise(module: nn.Module) -> None:
    """Draw the weights of a convolution with variance 2 / fan-out.

    He et al. 2015, "Delving Deep into Rectifiers", eq. 14, derive this variance for layers with ReLU.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
