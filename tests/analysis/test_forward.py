"""Eq. 4 for blocks whose sums are computed by hand, and for blocks in which eq. 4 must fail."""

import pytest
import torch
from broken_networks import MISTAKES, batch, broken, network
from torch import nn

from analysis.forward import identity_sums
from models.blocks import PreActBlock


@pytest.mark.parametrize(("depth", "block"), [(20, "basic"), (29, "bottleneck"), (8, "basic")])
def test_preactivation_blocks_add_up_to_rounding(depth: int, block: str) -> None:
    sums = identity_sums(network("preact", depth, block), batch()[0])
    assert sums and max(pair.error for pair in sums) < 1e-15


def test_points_are_the_first_identity_block_the_next_the_middle_and_the_end() -> None:
    sums = identity_sums(network("preact", 56), batch(2)[0])
    pairs = {stage: [(p.first, p.last) for p in sums if p.stage == stage] for stage in (1, 2, 3)}
    assert set(pairs[1]) == {(1, 2), (1, 5), (1, 10), (2, 5), (2, 10), (5, 10)}
    assert pairs[2] == pairs[3]
    assert set(pairs[2]) == {(2, 3), (2, 6), (2, 10), (3, 6), (3, 10), (6, 10)}


def test_error_of_an_original_network_is_what_its_last_relus_cut_off() -> None:
    """The test computes x_2 = ReLU(x_1 + F(x_1)) step by step."""
    model, images = network("original", 8), batch()[0]
    model.train()
    x = model.stem(images)
    block = model.stage1[0]
    sums = (x + block.residual(x)).detach()
    expected = torch.linalg.vector_norm(sums.clamp(max=0)) / torch.linalg.vector_norm(sums.relu())
    pairs = identity_sums(model, images)
    assert [(pair.stage, pair.first, pair.last) for pair in pairs] == [(1, 1, 2)]
    assert pairs[0].error == pytest.approx(float(expected), rel=1e-9)
    assert pairs[0].error > 0.1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_single_block_shows_in_its_stage_alone(mistake: type[PreActBlock]) -> None:
    sums = identity_sums(broken(mistake, stage=1, block=1), batch()[0])
    errors = {(pair.stage, pair.first, pair.last): pair.error for pair in sums}
    assert errors.pop((2, 2, 3)) > 0.1 and errors.pop((2, 2, 4)) > 0.1
    assert max(errors.values()) < 1e-15


def test_measuring_changes_nothing() -> None:
    model = network("preact", 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    identity_sums(model, batch()[0])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, nn.Module))
