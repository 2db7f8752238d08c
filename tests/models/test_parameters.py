import pytest
import torch
from torch import nn

from models.config import VARIANTS, ResNetConfig, resnet_config
from models.resnet import ResNet


def basic_parameters(variant: str, n: int, classes: int, channels: int) -> int:
    """Count by hand: k²·in·out for a convolution, 2 for a BN channel, and a linear layer with bias."""
    stem = 9 * channels * 16
    # A stage of width w has 2n convolutions of 9w², except that the first takes the channels of the stage
    # before.
    convolutions = (
        (2 * n * 9 * 16**2)
        + (9 * 16 * 32 + (2 * n - 1) * 9 * 32**2)
        + (9 * 32 * 64 + (2 * n - 1) * 9 * 64**2)
    )
    projections = 16 * 32 + 32 * 64
    if variant == "original":
        # BN follows the stem, both convolutions of each block, and each projection.
        bn_channels = 16 + 2 * n * (16 + 32 + 64) + 32 + 64
    else:
        # BN precedes both convolutions of each block, of which the first in a stage has the channels of the
        # stage before, and the head has one more BN.
        bn_channels = 2 * n * 16 + (16 + (2 * n - 1) * 32) + (32 + (2 * n - 1) * 64) + 64
    return stem + convolutions + projections + 2 * bn_channels + 64 * classes + classes


def bottleneck_parameters(variant: str, n: int, classes: int, channels: int) -> int:
    """Count by hand as above; a block of width 16, 32 or 64 ends with four times as many channels."""
    stem = 9 * channels * 16
    convolutions = projections = 0
    for width, before in ((16, 16), (32, 64), (64, 128)):
        first = before * width + 9 * width**2 + 4 * width**2
        later = 4 * width**2 + 9 * width**2 + 4 * width**2
        convolutions += first + (n - 1) * later
        projections += before * 4 * width
    if variant == "original":
        bn_channels = 16 + n * 6 * (16 + 32 + 64) + (64 + 128 + 256)
    else:
        later_blocks = (n - 1) * 6 * (16 + 32 + 64)
        first_blocks = (16 + 2 * 16) + (64 + 2 * 32) + (128 + 2 * 64)
        bn_channels = later_blocks + first_blocks + 256
    return stem + convolutions + projections + 2 * bn_channels + 256 * classes + classes


def parameters(config: ResNetConfig) -> int:
    with torch.device("meta"):  # The parameters have shapes and no memory.
        return sum(parameter.numel() for parameter in ResNet(config).parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("depth", "classes", "channels"), [(8, 10, 3), (20, 10, 3), (20, 100, 1), (56, 10, 3), (1202, 10, 3)]
)
def test_parameters_of_basic_networks(variant: str, depth: int, classes: int, channels: int) -> None:
    config = resnet_config(variant, depth, "basic", classes, channels)
    assert parameters(config) == basic_parameters(variant, (depth - 2) // 6, classes, channels)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("depth", "classes", "channels"), [(11, 10, 3), (20, 10, 3), (29, 100, 1), (164, 10, 3), (1001, 10, 3)]
)
def test_parameters_of_bottleneck_networks(variant: str, depth: int, classes: int, channels: int) -> None:
    config = resnet_config(variant, depth, "bottleneck", classes, channels)
    assert parameters(config) == bottleneck_parameters(variant, (depth - 2) // 9, classes, channels)


# The published numbers are in millions, from He et al. 2015, table 6, and He et al. 2016, table 4.
@pytest.mark.parametrize(
    ("depth", "published"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7), (1202, 19.4), (164, 1.7), (1001, 10.2)],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_counts_by_hand_are_about_the_published(variant: str, depth: int, published: float) -> None:
    if depth in (164, 1001):
        count = bottleneck_parameters(variant, (depth - 2) // 9, 10, 3)
    else:
        count = basic_parameters(variant, (depth - 2) // 6, 10, 3)
    assert count / 1e6 == pytest.approx(published, rel=0.025)


@pytest.mark.parametrize(
    ("variant", "depth", "exact"), [("original", 164, 1_704_154), ("preact", 164, 1_703_258)]
)
def test_parameters_of_resnet_164(variant: str, depth: int, exact: int) -> None:
    assert bottleneck_parameters(variant, 18, 10, 3) == exact
    assert parameters(resnet_config(variant, depth)) == exact


@pytest.mark.parametrize(("depth", "block"), [(20, "basic"), (20, "bottleneck"), (164, "bottleneck")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_depth_is_the_number_of_layers_with_weights(variant: str, depth: int, block: str) -> None:
    with torch.device("meta"):
        model = ResNet(resnet_config(variant, depth, block))
    on_the_main_path = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and "projection" not in name
    ]
    assert len(on_the_main_path) == depth
