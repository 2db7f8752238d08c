"""Eq. 5, compared with plain autograd of the whole network and with gradients computed by hand."""

import math

import pytest
import torch
from broken_networks import MISTAKES, ReluOnTheSkip, batch, broken, network
from torch import Tensor, nn

from analysis.backward import block_gradients
from analysis.branches import blocks_of
from errors import CheckFailed
from models.blocks import PreActBlock
from models.config import VARIANTS
from models.resnet import ResNet

NETWORKS = [(variant, depth, block) for variant in VARIANTS for depth, block in ((20, "basic"), (29, None))]


def stream_and_gradients(model: ResNet, images: Tensor, labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return each block's input and the last output, and the gradients at them from one backward pass."""
    model.train()
    x = model.stem(images)
    stream = [x]
    for blocks in model.stages():
        for block in blocks:
            x = block(x)
            stream.append(x)
    loss = nn.functional.cross_entropy(model.classifier(model.flatten(model.pool(model.head(x)))), labels)
    return stream, list(torch.autograd.grad(loss, stream))


@pytest.mark.parametrize(("variant", "depth", "block"), NETWORKS)
def test_gradients_are_those_of_one_backward_pass(variant: str, depth: int, block: str | None) -> None:
    model, (images, labels) = network(variant, depth, block), batch()
    _, gradients = stream_and_gradients(model, images, labels)
    loss, rows = block_gradients(model, images, labels)
    logits = model(images).detach()
    expected = [float(torch.linalg.vector_norm(gradient)) for gradient in gradients[:-1]]
    assert [row.norm for row in rows] == pytest.approx(expected, rel=1e-9)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-12)
    n = model.config.blocks_per_stage
    assert [(row.stage, row.block) for row in rows] == [(s, b) for s in (1, 2, 3) for b in range(1, n + 1)]


@pytest.mark.parametrize(("variant", "depth", "block"), NETWORKS)
def test_dead_paths_and_skip_terms_are_those_of_the_stream_itself(
    variant: str, depth: int, block: str | None
) -> None:
    """The test takes masks from the signs of the stream, while the code differentiates block by block."""
    model, (images, labels) = network(variant, depth, block), batch()
    stream, gradients = stream_and_gradients(model, images, labels)
    _, rows = block_gradients(model, images, labels)
    n = model.config.blocks_per_stage
    for index, row in enumerate(rows):
        end = row.stage * n
        if row.error is None:
            assert blocks_of(model)[row.stage - 1][row.block - 1].projection is not None
            assert row.dead is None and row.skip_share is None
            continue
        masks = [(after > 0) | torch.tensor(variant == "preact") for after in stream[index + 1 : end + 1]]
        alive = torch.stack(masks).all(0)
        skip = gradients[end] * alive
        assert row.dead == pytest.approx(float((~masks[0]).double().mean()), abs=1e-12)
        assert row.dead_to_end == pytest.approx(float((~alive).double().mean()), abs=1e-12)
        gradient = gradients[index]
        assert row.skip_norm == pytest.approx(float(skip.norm() / gradient.norm()), rel=1e-9)
        share = (gradient * skip).sum() / gradient.square().sum()
        assert row.skip_share == pytest.approx(float(share), rel=1e-9)


def test_equation_5_holds_to_rounding_in_a_preactivation_network_only() -> None:
    images, labels = batch()
    errors = {
        variant: [
            row.error for row in block_gradients(network(variant), images, labels)[1] if row.error is not None
        ]
        for variant in VARIANTS
    }
    assert max(errors["preact"]) < 1e-14
    assert min(errors["original"]) > 0.1


def test_without_residual_branches_the_skip_term_is_all_of_it() -> None:
    model = network("preact")
    for blocks in blocks_of(model):
        for block in blocks:
            block.residual[-1].weight.data.zero_()
    _, rows = block_gradients(model, *batch())
    for row in rows:
        if row.error is not None:
            assert (row.skip_norm, row.skip_share, row.dead, row.error) == pytest.approx(
                (1, 1, 0, 0), abs=1e-12
            )


def test_shares_of_a_branch_that_copies_its_input() -> None:
    """With F(x) = x in two blocks, g_l = 2^(L-l) g_L, so that the skip term is 1/2 and then 1/4 of g_l."""
    model = network("preact", 20)
    for block in blocks_of(model)[0][1:]:
        block.preact = nn.Sequential()
        block.residual = nn.Sequential(nn.Identity())
    rows = {(row.stage, row.block): row for row in block_gradients(model, *batch())[1]}
    for block, part in ((3, 0.5), (2, 0.25)):
        row = rows[1, block]
        assert (row.skip_norm, row.skip_share) == pytest.approx((part, part), rel=1e-12)
        assert row.error == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_single_block_shows_from_there_to_the_start_of_its_stage(
    mistake: type[PreActBlock],
) -> None:
    _, rows = block_gradients(broken(mistake, stage=0, block=1), *batch())
    errors = {(row.stage, row.block): row.error for row in rows if row.error is not None}
    assert errors.pop((1, 2)) > 0.01 and errors.pop((1, 1)) > 0.001
    assert max(errors.values()) < 1e-14


def test_a_relu_on_the_skip_path_of_a_preactivation_block_is_counted_as_dead() -> None:
    model, (images, labels) = broken(ReluOnTheSkip, stage=0, block=1), batch()
    stream, _ = stream_and_gradients(model, images, labels)
    rows = {(row.stage, row.block): row for row in block_gradients(model, images, labels)[1]}
    closed = float((stream[1] <= 0).double().mean())
    assert closed > 0.3
    assert rows[1, 2].dead == rows[1, 2].dead_to_end == rows[1, 1].dead_to_end == pytest.approx(closed)
    assert rows[1, 1].dead == rows[1, 3].dead == rows[1, 3].dead_to_end == 0


def test_a_gradient_that_vanishes_everywhere_has_no_shares_and_eq_5_is_0_is_0() -> None:
    model = network("preact")
    model.classifier.weight.data.zero_()
    _, rows = block_gradients(model, *batch())
    assert {row.norm for row in rows} == {0}
    identity_rows = [row for row in rows if row.error is not None]
    assert identity_rows
    assert {(row.skip_norm, row.skip_share, row.error) for row in identity_rows} == {(None, None, 0)}


def test_a_gradient_that_vanishes_behind_a_dead_block_is_told_from_one_that_was_never_there() -> None:
    model = network("original")
    # Every sum of the last block is negative, so that the ReLU after the addition lets nothing through.
    block = model.stages()[2][2]
    block.residual[-1].weight.data.zero_()
    block.residual[-1].bias.data.fill_(-1e6)
    _, rows = block_gradients(model, *batch())
    by_place = {(row.stage, row.block): row for row in rows}
    dead = by_place[3, 3]
    assert (dead.norm, dead.skip_norm, dead.skip_share, dead.dead, dead.error) == (0, None, None, 1, 1)
    assert by_place[3, 2].norm == by_place[1, 1].norm == 0


def test_a_loss_that_is_not_finite_is_refused() -> None:
    images, labels = batch()
    model = network("preact", 8)
    model.classifier.bias.data.fill_(math.inf)
    with pytest.raises(CheckFailed, match="not finite"):
        block_gradients(model, images, labels)


def test_measuring_changes_nothing_and_leaves_no_gradient() -> None:
    model = network("original", 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    block_gradients(model, *batch())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_depth_1001(variant: str) -> None:
    _, rows = block_gradients(network(variant, 1001), *batch())
    identity_rows = [row for row in rows if row.error is not None]
    assert (len(rows), len(identity_rows)) == (333, 330)
    if variant == "preact":
        assert max(row.error for row in identity_rows if row.error) < 1e-14
        assert {row.dead for row in identity_rows} == {0}
    else:
        assert min(row.dead for row in identity_rows if row.dead is not None) > 0.01
