from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from models.blocks import OriginalBlock, PreActBlock, residual_plan, shortcut_plan
from models.config import BLOCKS

EXPANSION = {"basic": 1, "bottleneck": 4}
BLOCK_TYPES = {"original": OriginalBlock, "preact": PreActBlock}


class PreActBlockWithActivatedShortcut(PreActBlock):
    """A block with a known mistake: every shortcut starts from ReLU(BN(x))."""

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        shortcut = activated if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)


class PreActBlockWithReluAfterAddition(PreActBlock):
    """A block with a known mistake: a ReLU follows the addition."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def made(block_type: type[nn.Module], block: str, in_channels: int, width: int, stride: int) -> nn.Module:
    """Return a block in evaluation mode whose BN layers are not the identity."""
    torch.manual_seed(0)
    module = block_type(residual_plan(block, in_channels, width, stride))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.2)
            nn.init.normal_(layer.bias, 0, 0.5)
            nn.init.normal_(layer.running_mean, 0, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def identity_block(block_type: type[nn.Module], block: str) -> nn.Module:
    return made(block_type, block, 4 * EXPANSION[block], 4, stride=1)


def projection_block(block_type: type[nn.Module], block: str) -> nn.Module:
    return made(block_type, block, 6, 4, stride=2)


def stream(channels: int) -> Tensor:
    """Return values of a skip path, some of them negative."""
    return torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(1))


def holds_the_identity_equation(module: nn.Module, x: Tensor) -> bool:
    """The output is x_{l+1} = x_l + F(x_l), bit for bit."""
    with torch.no_grad():
        return torch.equal(module(x), x + module.residual(module.preact(x)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_preact_identity_block_is_x_plus_f(block: str, training: bool) -> None:
    module = identity_block(PreActBlock, block).train(training)
    assert module.projection is None
    assert holds_the_identity_equation(module, stream(4 * EXPANSION[block]))


@pytest.mark.parametrize("wrong", [PreActBlockWithActivatedShortcut, PreActBlockWithReluAfterAddition])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_known_wrong_blocks_are_caught(block: str, wrong: type[nn.Module]) -> None:
    assert not holds_the_identity_equation(identity_block(wrong, block), stream(4 * EXPANSION[block]))


@pytest.mark.parametrize("block", BLOCKS)
def test_preact_output_is_negative_in_places(block: str) -> None:
    for module, channels in (
        (identity_block(PreActBlock, block), 4 * EXPANSION[block]),
        (projection_block(PreActBlock, block), 6),
    ):
        with torch.no_grad():
            output = module(stream(channels))
        assert 0.1 < (output < 0).float().mean() < 0.9


@pytest.mark.parametrize("block", BLOCKS)
def test_preact_projection_starts_from_the_activated_input_and_is_bare(block: str) -> None:
    module = projection_block(PreActBlock, block)
    x = stream(6)
    assert isinstance(module.projection, nn.Conv2d)
    assert module.projection.bias is None
    with torch.no_grad():
        bn = module.preact.bn1
        scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        activated = ((x - bn.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)).add(
            bn.bias.view(1, -1, 1, 1)
        )
        activated = activated.clamp(min=0)
        picked = torch.einsum(
            "oc,nchw->nohw", module.projection.weight[:, :, 0, 0], activated[:, :, ::2, ::2]
        )
        torch.testing.assert_close(module(x), picked + module.residual(activated), rtol=1e-5, atol=1e-5)
        from_raw = module.projection(x) + module.residual(activated)
        assert not torch.allclose(module(x), from_raw, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("block", BLOCKS)
def test_preact_identity_carries_signal_and_gradient_unchanged(block: str) -> None:
    modules = [identity_block(PreActBlock, block) for _ in range(3)]
    for module in modules:
        last_convolution = list(module.residual)[-1]
        nn.init.zeros_(last_convolution.weight)  # F is then 0.
    x = stream(4 * EXPANSION[block]).requires_grad_()
    output = nn.Sequential(*modules)(x)
    upstream = stream(4 * EXPANSION[block]).flip(0)
    output.backward(upstream)
    assert torch.equal(output, x)
    assert torch.equal(x.grad, upstream)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_wrong_shortcut_carries_neither(block: str) -> None:
    module = identity_block(PreActBlockWithActivatedShortcut, block)
    nn.init.zeros_(list(module.residual)[-1].weight)
    x = stream(4 * EXPANSION[block]).requires_grad_()
    output = module(x)
    output.backward(torch.ones_like(x))
    assert not torch.allclose(output, x)
    assert not torch.allclose(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("block", BLOCKS)
def test_original_identity_block_is_relu_of_x_plus_f(block: str) -> None:
    module = identity_block(OriginalBlock, block)
    x = stream(4 * EXPANSION[block])
    with torch.no_grad():
        total = x + module.residual(x)
        assert torch.equal(module(x), total.clamp(min=0))
        assert (total < 0).any()


@pytest.mark.parametrize("block", BLOCKS)
def test_original_projection_starts_from_the_raw_input_and_has_bn(block: str) -> None:
    module = projection_block(OriginalBlock, block)
    x = stream(6)
    assert [type(layer) for layer in module.projection] == [nn.Conv2d, nn.BatchNorm2d]
    with torch.no_grad():
        assert torch.equal(module(x), (module.projection(x) + module.residual(x)).relu())


ORDER = {
    ("original", "basic"): "conv bn relu conv bn",
    ("original", "bottleneck"): "conv bn relu conv bn relu conv bn",
    ("preact", "basic"): "bn relu conv bn relu conv",
    ("preact", "bottleneck"): "bn relu conv bn relu conv bn relu conv",
}


@pytest.mark.parametrize(("variant", "block"), ORDER)
def test_order_of_layers_in_the_residual_branch(variant: str, block: str) -> None:
    module = identity_block(BLOCK_TYPES[variant], block)
    short = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu"}
    layers = [*getattr(module, "preact", []), *module.residual]
    assert " ".join(short[type(layer)] for layer in layers) == ORDER[variant, block]


@pytest.mark.parametrize(
    ("block", "kernels", "strides"), [("basic", [3, 3], [2, 1]), ("bottleneck", [1, 3, 1], [1, 2, 1])]
)
def test_kernels_and_place_of_the_stride(block: str, kernels: list[int], strides: list[int]) -> None:
    plans = residual_plan(block, 6, 4, 2)
    assert [plan.kernel for plan in plans] == kernels
    assert [plan.stride for plan in plans] == strides
    assert plans[0].in_channels == 6
    assert plans[-1].out_channels == 4 * EXPANSION[block]
    assert all(before.out_channels == after.in_channels for before, after in pairwise(plans))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("same_channels", "stride", "projected"),
    [(True, 1, False), (True, 2, True), (False, 1, True), (False, 2, True)],
)
def test_a_projection_stands_only_where_the_shape_changes(
    block: str, same_channels: bool, stride: int, projected: bool
) -> None:
    out_channels = 4 * EXPANSION[block]
    in_channels = out_channels if same_channels else out_channels + 1
    plan = shortcut_plan(residual_plan(block, in_channels, 4, stride))
    assert plan == ((in_channels, out_channels, 1, stride) if projected else None)


@pytest.mark.parametrize("variant", BLOCK_TYPES)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("size", "half"), [(8, 4), (7, 4), (1, 1)])
def test_output_shape_of_a_strided_block(variant: str, block: str, size: int, half: int) -> None:
    module = projection_block(BLOCK_TYPES[variant], block)
    output = module(torch.zeros(2, 6, size, size))
    assert output.shape == (2, 4 * EXPANSION[block], half, half)
    assert output.dtype == torch.float32
