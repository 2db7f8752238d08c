from collections import OrderedDict

import pytest
import torch
from sample_networks import FOUR_BLOCKS, randomise_batchnorm, sample_network
from torch import fx, nn

from export.fold import FoldBatchnorm
from graphs.passes import PassResult
from models.config import resnet_config

STAGES = ("stage1.0", "stage2.0", "stage3.0")


def sequence(**layers):
    return nn.Sequential(OrderedDict(layers))


class Shared(nn.Module):
    """The convolution's output goes to the BN and past the BN."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        return y + self.bn(y)


class BehindAdd(nn.Module):
    """The BN reads a sum of two convolutions."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 8, 1)
        self.right = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.left(x) + self.right(x))


def folded(model, seed=0):
    """Fold in float64; return result, network and the largest error relative to the largest output."""
    torch.manual_seed(seed)
    randomise_batchnorm(model, seed)
    model = model.double().eval()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
        traced = fx.symbolic_trace(model)
        result = FoldBatchnorm()(traced)
        actual = traced(images)
    assert actual.shape == expected.shape
    return result, traced, float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_folding_is_exact_under_random_statistics(variant, depth, seed):
    result, _, error = folded(sample_network(resnet_config(variant, depth), seed), seed)
    assert result.changed
    assert error < 1e-13


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(3, 9, 1, groups=3),
        nn.Conv2d(3, 8, 3, dilation=2),
    ],
    ids=["no bias", "bias", "groups", "dilation"],
)
def test_every_kind_of_convolution_folds_exactly(conv):
    result, traced, error = folded(sequence(conv=conv, bn=nn.BatchNorm2d(conv.out_channels, eps=0.1)))
    assert result == PassResult("fold", ("bn",), {})
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["conv"]
    assert error < 1e-14


def test_bn_stays_where_the_convolution_has_another_consumer():
    result, _, error = folded(Shared())
    assert result == PassResult("fold", (), {"bn": "conv has other consumers"})
    assert error == 0


def test_bn_stays_behind_an_add():
    result, _, error = folded(BehindAdd())
    assert result == PassResult("fold", (), {"bn": "follows add, which is no convolution"})
    assert error == 0


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (sequence(bn=nn.BatchNorm2d(3)), "follows input_1"),
        (sequence(conv=nn.Conv2d(3, 8, 1), relu=nn.ReLU(), bn=nn.BatchNorm2d(8)), "follows relu"),
    ],
    ids=["input", "relu"],
)
def test_bn_stays_behind_anything_else(model, reason):
    result, _, error = folded(model)
    assert result.changed == ()
    assert result.refused["bn"].startswith(reason)
    assert error == 0


def test_second_bn_in_a_row_folds_too():
    result, _, error = folded(sequence(conv=nn.Conv2d(3, 8, 1), a=nn.BatchNorm2d(8), b=nn.BatchNorm2d(8)))
    assert result == PassResult("fold", ("a", "b"), {})
    assert error < 1e-14


FOLDED = {
    ("preact", 8): [f"{block}.residual.bn2" for block in STAGES],
    # The first BN alone reads the stem's convolution here, because the first block projects.
    ("preact", 11): [
        "stage1.0.preact.bn1",
        *(f"{block}.residual.bn{n}" for block in STAGES for n in (2, 3)),
    ],
    ("original", 8): [
        "stem.bn",
        *(f"{block}.residual.bn{n}" for block in STAGES for n in (1, 2)),
        *(f"{block}.projection.bn" for block in STAGES[1:]),
    ],
    ("original", 11): [
        "stem.bn",
        *(f"{block}.residual.bn{n}" for block in STAGES for n in (1, 2, 3)),
        *(f"{block}.projection.bn" for block in STAGES),
    ],
}
KEPT = {
    ("preact", 8): {
        "stage1.0.preact.bn1": "stem.conv has other consumers",
        "stage2.0.preact.bn1": "follows add, which is no convolution",
        "stage3.0.preact.bn1": "follows add_1, which is no convolution",
        "head.bn": "follows add_2, which is no convolution",
    },
    ("preact", 11): {
        "stage2.0.preact.bn1": "follows add, which is no convolution",
        "stage3.0.preact.bn1": "follows add_1, which is no convolution",
        "head.bn": "follows add_2, which is no convolution",
    },
    ("original", 8): {},
    ("original", 11): {},
}


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_which_bn_layers_fold(variant, depth):
    model = sample_network(resnet_config(variant, depth))
    result = FoldBatchnorm()(fx.symbolic_trace(model))
    assert sorted(result.changed) == sorted(FOLDED[variant, depth])
    assert result.refused == KEPT[variant, depth]
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert sorted([*result.changed, *result.refused]) == sorted(layers)
