import numpy as np
import onnx_ir as ir
import pytest
from sample_networks import (
    TWO_BLOCKS,
    absorbable_network,
    graph_of,
    node_named,
    op_types,
    relative_error,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
)

from calibration.rewriting.absorb_batchnorm import LIMIT, AbsorbBatchnorm
from calibration.rewriting.bn_as_convolution import slope_and_offset
from errors import CheckFailed
from graphs.onnx_file import constant, replace_constant, write_graph

PREACT = [config for config in TWO_BLOCKS if config.variant == "preact"]
ORIGINAL = [config for config in TWO_BLOCKS if config.variant == "original"]
BASIC = PREACT[0]
IMAGES = sample_images(3)
GAMMA, BETA, MEAN = 1, 2, 3
MIDDLE = "stage1.1.preact.bn1"


def absorbable_graph(config):
    return graph_of(absorbable_network(config))


def batchnorms(model):
    return [node.name for node in model.graph if node.op_type == "BatchNormalization"]


def bytes_of(model):
    return ir.to_proto(model).SerializeToString(deterministic=True)


def with_parameter(model, bn, index, value):
    """Give one channel of a BN's parameter another value."""
    parameter = node_named(model, bn).inputs[index]
    replace_constant(parameter, np.r_[value, constant(parameter)[1:]])


@pytest.mark.parametrize("config", PREACT, ids=lambda config: config.block)
def test_every_batchnorm_is_absorbed_and_nothing_else_changes(tmp_path, config):
    model = absorbable_graph(config)
    (expected,) = run_graph(model, IMAGES)
    before = op_types(model)
    # The first BN of a bottleneck network alone reads the stem, so it is folded into the stem.
    assert before.count("BatchNormalization") == 7 - (config.block == "bottleneck")
    assert AbsorbBatchnorm()(model).refused == {}
    assert op_types(model) == [op for op in before if op != "BatchNormalization"]
    assert set(op_types(model)) == {"Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
    parameters = {value.name for node in model.graph for value in node.inputs if value.is_initializer()}
    assert set(model.graph.initializers) == parameters
    write_graph(model, sample_card(config), tmp_path / "model.onnx")
    (actual,) = run_graph(tmp_path / "model.onnx", IMAGES)
    assert actual.dtype == np.float32
    assert relative_error(expected, actual) < 1e-5


def test_stream_carries_the_offset_over_the_slope():
    model = absorbable_graph(BASIC)
    slope, offset = slope_and_offset(node_named(model, MIDDLE))
    before = tensor_of(model, "stage1.0.add")
    AbsorbBatchnorm()(model)
    shifted = before + (offset / slope)[:, None, None]
    assert relative_error(shifted, tensor_of(model, "stage1.0.add")) < 1e-5


def tensor_of(model, name):
    """Compute a value inside a graph."""
    value = node_named(model, name).outputs[0]
    model.graph.outputs.append(value)
    tensor = run_graph(model, IMAGES, outputs=[name])[0]
    model.graph.outputs.remove(value)
    return tensor


@pytest.mark.parametrize(
    ("index", "value", "told"),
    [
        (GAMMA, -0.5, "gamma is not positive in 1 of 16 channels"),
        (GAMMA, 0, "gamma is not positive in 1 of 16 channels"),
        (GAMMA, 1e-3, "absorbing this BN would shift the stream by 1000.0 standard deviations, over 8"),
        (BETA, -1.01 * LIMIT, "absorbing this BN would shift the stream by 8.1 standard deviations, over 8"),
    ],
)
@pytest.mark.parametrize("kept", ["stage1.0.preact.bn1", MIDDLE])
def test_one_channel_that_does_not_let_it_keeps_the_batchnorm(kept, index, value, told):
    model = absorbable_graph(BASIC)
    with_parameter(model, kept, GAMMA, 1)
    with_parameter(model, kept, BETA, 1)
    with_parameter(model, kept, index, value)
    (expected,) = run_graph(model, IMAGES)
    assert AbsorbBatchnorm()(model).refused == {kept: told}
    assert batchnorms(model) == [kept]
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


@pytest.mark.parametrize(("index", "value"), [(GAMMA, 1e-30), (BETA, 0.99 * LIMIT)])
def test_twin_of_it_that_does(index, value):
    model = absorbable_graph(BASIC)
    with_parameter(model, MIDDLE, GAMMA, 1)
    with_parameter(model, MIDDLE, BETA, 0)
    with_parameter(model, MIDDLE, index, value)
    (expected,) = run_graph(model, IMAGES)
    assert AbsorbBatchnorm()(model).refused == {}
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


def test_batchnorm_kept_in_the_middle_takes_the_shift_of_the_block_before():
    model = absorbable_graph(BASIC)
    with_parameter(model, MIDDLE, GAMMA, -1)
    mean = constant(node_named(model, MIDDLE).inputs[MEAN])
    slope, offset = slope_and_offset(node_named(model, "stage1.0.preact.bn1"))
    (expected,) = run_graph(model, IMAGES)
    AbsorbBatchnorm()(model)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5
    np.testing.assert_allclose(
        constant(node_named(model, MIDDLE).inputs[MEAN]), mean + offset / slope, rtol=1e-5
    )
    # So x_1 is shifted as x_0 is, and the convolution that writes x_1 needs no bias.
    assert len(node_named(model, "stage1.0.residual.conv2").inputs) == 2


def test_all_kept_leaves_the_file_as_it_is():
    model = sample_graph(BASIC)
    before = bytes_of(model)
    kept = AbsorbBatchnorm()(model).refused
    assert list(kept) == batchnorms(model)
    assert all(reason.startswith("gamma is not positive in") for reason in kept.values())
    assert bytes_of(model) == before


@pytest.mark.parametrize("config", ORIGINAL, ids=lambda config: config.block)
def test_original_network_is_left_as_it_is(config):
    model = absorbable_graph(config)
    before = bytes_of(model)
    assert AbsorbBatchnorm()(model).refused == {}
    assert bytes_of(model) == before


def test_second_time_changes_nothing():
    model = absorbable_graph(BASIC)
    with_parameter(model, MIDDLE, GAMMA, -1)
    kept = AbsorbBatchnorm()(model).refused
    before = bytes_of(model)
    assert AbsorbBatchnorm()(model).refused == kept
    assert bytes_of(model) == before


def test_batchnorm_with_another_reader_than_relu_is_kept():
    model = absorbable_graph(BASIC)
    bn, relu = node_named(model, MIDDLE), node_named(model, MIDDLE.replace("bn", "relu"))
    sigmoid = ir.node("Sigmoid", [bn.outputs[0]], name="sigmoid")
    model.graph.insert_after(relu, sigmoid)
    assert AbsorbBatchnorm()(model).refused == {MIDDLE: "a Relu is not the only reader of this BN"}


def share(model, index):
    """Give two BN one parameter."""
    first, second = (node_named(model, f"stage1.{n}.preact.bn1") for n in (0, 1))
    second.replace_input_with(index, first.inputs[index])


def test_slope_that_two_share_is_absorbed_into_the_weights_of_each():
    model = absorbable_graph(BASIC)
    share(model, GAMMA)
    (expected,) = run_graph(model, IMAGES)
    assert AbsorbBatchnorm()(model).refused == {}
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


def test_mean_that_two_share_is_refused():
    model = absorbable_graph(BASIC)
    share(model, MEAN)
    with pytest.raises(CheckFailed, match=rf"is shared by stage1\.0\.preact\.bn1 and {MIDDLE}"):
        AbsorbBatchnorm()(model)


def test_weight_shared_with_another_convolution_is_refused():
    model = absorbable_graph(BASIC)
    first, second = (node_named(model, f"stage1.{n}.residual.conv1") for n in (0, 1))
    second.replace_input_with(1, first.inputs[1])
    with pytest.raises(CheckFailed, match=f"is shared by {first.name} and {second.name}") as caught:
        AbsorbBatchnorm()(model)
    assert caught.value.fix == "export a network whose weights are not shared"
