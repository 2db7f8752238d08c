"""Blocks that are cut after F, and BN with the statistics of the batch."""

import copy

import pytest
import torch
from sample_networks import sample_network

from analysis.branches import batch_statistics, blocks_of, evaluated, identity_start
from models.config import VARIANTS, resnet_config


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cut_block_computes_what_the_block_does(variant: str) -> None:
    block = blocks_of(sample_network(resnet_config(variant, 14)))[0][1]
    x = torch.randn(2, 16, 8, 8)
    parts = evaluated(block, x)
    assert torch.equal(parts.output, block(x))
    inner = block.residual(block.preact(x) if variant == "preact" else x)
    assert torch.equal(parts.residual, inner) and torch.equal(parts.cut, inner)
    assert not block.residual._forward_hooks


def test_the_cut_separates_the_skip_path_from_the_branch() -> None:
    block = blocks_of(sample_network(resnet_config("preact", 14)))[0][1]
    x = torch.randn(2, 16, 8, 8, requires_grad=True)
    parts = evaluated(block, x)
    (along_skip,) = torch.autograd.grad(parts.output, x, torch.ones_like(x), retain_graph=True)
    assert torch.equal(along_skip, torch.ones_like(x))
    assert parts.cut.is_leaf and parts.residual.grad_fn is not None


@pytest.mark.parametrize(
    ("depth", "block", "starts"), [(14, "basic", [0, 1, 1]), (20, "bottleneck", [1, 1, 1])]
)
def test_a_stage_is_measured_from_behind_its_projection(depth: int, block: str, starts: list[int]) -> None:
    model = sample_network(resnet_config("preact", depth, block))
    assert [identity_start(blocks) for blocks in blocks_of(model)] == starts


def test_batch_statistics_are_the_batchs_own_and_leave_no_trace() -> None:
    model = sample_network(resnet_config("preact", 8))
    model.stage1.train()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    images = torch.randn(4, 3, 32, 32)
    seen: list[torch.Tensor] = []
    model.head.bn.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with batch_statistics(model):
        model(images)
    mean, slope = seen[0].mean((0, 2, 3)), model.head.bn
    torch.testing.assert_close(mean, slope.bias, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
