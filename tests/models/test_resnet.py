from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from models.blocks import OriginalBlock, PreActBlock
from models.config import VARIANTS, ResNetConfig, resnet_config
from models.resnet import ResNet

TINY = [(variant, depth) for variant in VARIANTS for depth in (8, 11)]


def built(config: ResNetConfig) -> ResNet:
    torch.manual_seed(0)
    return ResNet(config)


def with_lively_bn(model: ResNet) -> ResNet:
    """Return the model in evaluation mode, with BN statistics and parameters that are not 0 and 1."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.2)
            nn.init.normal_(layer.bias, 0, 0.3)
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model.eval()


def images(count: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("variant", "depth"), TINY)
@pytest.mark.parametrize(("classes", "channels"), [(10, 3), (2, 1), (37, 4)])
def test_classes_and_channels_are_free(variant: str, depth: int, classes: int, channels: int) -> None:
    model = built(resnet_config(variant, depth, num_classes=classes, in_channels=channels)).eval()
    for count in (1, 3):
        logits = model(images(count, channels))
        assert logits.shape == (count, classes)
        assert logits.dtype == torch.float32


@pytest.mark.parametrize(("variant", "depth"), TINY)
def test_stages_work_at_32_16_and_8_pixels(variant: str, depth: int) -> None:
    model = built(resnet_config(variant, depth)).eval()
    expansion = {8: 1, 11: 4}[depth]
    shapes = [model.stem(images()).shape]
    x = model.stem(images())
    for stage in model.stages():
        x = stage(x)
        shapes.append(x.shape)
    widths = [16, 16 * expansion, 32 * expansion, 64 * expansion]
    assert [shape[1] for shape in shapes] == widths
    assert [shape[2:] for shape in shapes] == [(32, 32), (32, 32), (16, 16), (8, 8)]


@pytest.mark.parametrize(("depth", "block"), [(20, "basic"), (29, "bottleneck")])
def test_only_first_blocks_project(depth: int, block: str) -> None:
    for variant in VARIANTS:
        model = built(resnet_config(variant, depth, block))
        projected = [[b.projection is not None for b in stage] for stage in model.stages()]
        first = block == "bottleneck"  # A bottleneck makes 64 channels of 16.
        assert projected == [[first, False, False], [True, False, False], [True, False, False]]


@pytest.mark.parametrize(("depth", "block"), [(20, "basic"), (29, "bottleneck")])
def test_every_preact_block_of_the_network_is_x_plus_f(depth: int, block: str) -> None:
    model = with_lively_bn(built(resnet_config("preact", depth, block)))
    checked = 0
    with torch.no_grad():
        x = model.stem(images())
        for module in [b for stage in model.stages() for b in stage]:
            assert type(module) is PreActBlock
            activated = module.preact(x)
            shortcut = x if module.projection is None else module.projection(activated)
            after = module(x)
            assert torch.equal(after, shortcut + module.residual(activated))
            assert (after < 0).any(), "something that clips follows the addition"
            checked += module.projection is None
            x = after
        logits = model.classifier(torch.relu(model.head.bn(x)).mean(dim=(2, 3)))
        torch.testing.assert_close(model(images()), logits, rtol=1e-4, atol=1e-5)
    assert checked == {"basic": 7, "bottleneck": 6}[block]


def test_every_original_block_of_the_network_ends_in_relu() -> None:
    model = with_lively_bn(built(resnet_config("original", 20)))
    with torch.no_grad():
        x = model.stem(images())
        assert (x >= 0).all()
        for module in [b for stage in model.stages() for b in stage]:
            assert type(module) is OriginalBlock
            shortcut = x if module.projection is None else module.projection(x)
            after = module(x)
            assert torch.equal(after, (shortcut + module.residual(x)).relu())
            x = after
        logits = model.classifier(x.mean(dim=(2, 3)))
        torch.testing.assert_close(model(images()), logits, rtol=1e-4, atol=1e-5)


def test_signal_through_a_preact_stage_is_the_sum_of_its_residuals() -> None:
    """Eq. 4 of the paper, x_L = x_l + sum of F, holds through all identity blocks of a stage."""
    model = with_lively_bn(built(resnet_config("preact", 32)))
    with torch.no_grad():
        x = start = model.stem(images())
        total = start.double()
        for module in model.stages()[0]:
            total = total + module.residual(module.preact(x)).double()
            x = module(x)
    torch.testing.assert_close(x.double(), total, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_convolutions_start_with_kaiming_variance(variant: str) -> None:
    model = built(resnet_config(variant, 29))
    checked = 0
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            # The variance of n normal values has a standard deviation of sqrt(2 / n), relative to the
            # variance.
            tolerance = 5 * (2 / layer.weight.numel()) ** 0.5
            assert layer.weight.var().item() == pytest.approx(2 / fan_out, rel=tolerance), name
            assert abs(layer.weight.mean().item()) < 5 * (2 / fan_out / layer.weight.numel()) ** 0.5, name
            checked += 1
    assert checked > 20


def test_bn_starts_as_the_identity_and_convolutions_have_no_bias() -> None:
    model = built(resnet_config("preact", 20))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_seed_decides_the_weights(variant: str) -> None:
    config = resnet_config(variant, 8)
    first, same = built(config).state_dict(), built(config).state_dict()
    later = ResNet(config).state_dict()  # The random generator is in another state by now.
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], later["stem.conv.weight"])


@pytest.mark.parametrize(("variant", "depth"), TINY)
def test_every_parameter_gets_a_gradient(variant: str, depth: int) -> None:
    model = built(resnet_config(variant, depth)).train()
    model(images(4)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def bn(name: str) -> list[str]:
    return [
        f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]


# Checkpoints, ONNX nodes and ranges carry these names, so that a change would break the files of users.
GOLDEN_NAMES = {
    "preact": [
        "stem.conv.weight",
        *bn("stage1.0.preact.bn1"),
        "stage1.0.residual.conv1.weight",
        *bn("stage1.0.residual.bn2"),
        "stage1.0.residual.conv2.weight",
        *bn("stage2.0.preact.bn1"),
        "stage2.0.residual.conv1.weight",
        *bn("stage2.0.residual.bn2"),
        "stage2.0.residual.conv2.weight",
        "stage2.0.projection.weight",
        *bn("stage3.0.preact.bn1"),
        "stage3.0.residual.conv1.weight",
        *bn("stage3.0.residual.bn2"),
        "stage3.0.residual.conv2.weight",
        "stage3.0.projection.weight",
        *bn("head.bn"),
        "classifier.weight",
        "classifier.bias",
    ],
    "original": [
        "stem.conv.weight",
        *bn("stem.bn"),
        "stage1.0.residual.conv1.weight",
        *bn("stage1.0.residual.bn1"),
        "stage1.0.residual.conv2.weight",
        *bn("stage1.0.residual.bn2"),
        "stage2.0.residual.conv1.weight",
        *bn("stage2.0.residual.bn1"),
        "stage2.0.residual.conv2.weight",
        *bn("stage2.0.residual.bn2"),
        "stage2.0.projection.conv.weight",
        *bn("stage2.0.projection.bn"),
        "stage3.0.residual.conv1.weight",
        *bn("stage3.0.residual.bn1"),
        "stage3.0.residual.conv2.weight",
        *bn("stage3.0.residual.bn2"),
        "stage3.0.projection.conv.weight",
        *bn("stage3.0.projection.bn"),
        "classifier.weight",
        "classifier.bias",
    ],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_of_weights_are_stable(variant: str) -> None:
    assert list(built(resnet_config(variant, 8)).state_dict()) == GOLDEN_NAMES[variant]


def test_children_are_those_the_docstring_promises() -> None:
    children = ["stem", "stage1", "stage2", "stage3", "head", "pool", "flatten", "classifier"]
    for variant in VARIANTS:
        model = built(resnet_config(variant, 11))
        assert [name for name, _ in model.named_children()] == children
        assert [id(stage) for stage in model.stages()] == [id(getattr(model, f"stage{i}")) for i in (1, 2, 3)]
    assert [type(layer) for layer in model.head] == [nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_is_classified_on_its_own_in_evaluation(variant: str) -> None:
    model = with_lively_bn(built(resnet_config(variant, 8)))
    with torch.no_grad():
        together = model(images(4))
        for index, (before, after) in enumerate(pairwise(range(5))):
            alone = model(images(4)[before:after])
            torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-5)
