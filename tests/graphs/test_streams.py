"""These tests find the streams of both variants and make the two changes that keep the network's function."""

from itertools import chain

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import (
    TWO_BLOCKS,
    absorbable_network,
    graph_of,
    node_named,
    relative_error,
    run_graph,
    sample_graph,
    sample_images,
)

from calibration.rewriting.absorb_batchnorm import AbsorbBatchnorm
from errors import CheckFailed
from graphs.onnx_file import constant, initializer
from graphs.streams import divide_input, streams_of
from models.config import resnet_config

IDS = [f"{config.variant} {config.block}" for config in TWO_BLOCKS]
BASIC, BOTTLENECK = resnet_config("preact", 14), resnet_config("preact", 20, "bottleneck")
ORIGINAL = resnet_config("original", 14)
IMAGES = sample_images(2)
STAGES = (1, 2, 3)


def names(nodes):
    return [node.name for node in nodes]


def shape_of(stream):
    """Return the names of the values and of their writers."""
    return [value.name for value in stream.values], [names(writers) for writers in stream.writers]


def preact_stage(number, conv):
    values = [f"stage{number}.0.add", f"stage{number}.1.add"]
    first = [f"stage{number}.0.projection", f"stage{number}.0.residual.{conv}"]
    return values, [first, [f"stage{number}.1.residual.{conv}"]]


def original_stage(number, conv):
    values, (first, last) = preact_stage(number, conv)
    relus = [value.replace("add", "relu") for value in values]
    return relus, [[f"stage{number}.0.projection.conv", first[1]], last]


def with_stem(stage, stem_value):
    """Stage 1 of basic blocks has no projection, so the stream begins behind the stem."""
    values, (first, last) = stage
    return [stem_value, *values], [["stem.conv"], first[1:], last]


EXPECTED = {
    "preact basic": [
        with_stem(preact_stage(1, "conv2"), "stem.conv"),
        *(preact_stage(n, "conv2") for n in (2, 3)),
    ],
    "preact bottleneck": [preact_stage(n, "conv3") for n in STAGES],
    "original basic": [
        with_stem(original_stage(1, "conv2"), "stem.relu"),
        *(original_stage(n, "conv2") for n in (2, 3)),
    ],
    "original bottleneck": [original_stage(n, "conv3") for n in STAGES],
}


@pytest.mark.parametrize("config", TWO_BLOCKS, ids=IDS)
def test_streams_of_a_network(config):
    streams = streams_of(sample_graph(config))
    assert [shape_of(s) for s in streams] == EXPECTED[f"{config.variant} {config.block}"]
    assert [s.channels for s in streams] == [width * config.expansion for width in (16, 32, 64)]


def readers_of(model):
    return [[names(stream.readers(n)) for n in range(len(stream.values))] for stream in streams_of(model)]


def test_bn_alone_reads_each_value_of_a_preactivation_stream():
    model = sample_graph(BASIC)
    assert readers_of(model) == [
        [["stage1.0.preact.bn1"], ["stage1.1.preact.bn1"], ["stage2.0.preact.bn1"]],
        [["stage2.1.preact.bn1"], ["stage3.0.preact.bn1"]],
        [["stage3.1.preact.bn1"], ["head.bn"]],
    ]
    for stream in streams_of(model):
        for index in range(len(stream.values)):
            assert [stream.batchnorm(index)] == stream.readers(index)


def test_convolutions_and_the_pooling_read_an_original_stream():
    model = sample_graph(ORIGINAL)
    assert readers_of(model) == [
        [
            ["stage1.0.residual.conv1"],
            ["stage1.1.residual.conv1"],
            ["stage2.0.projection.conv", "stage2.0.residual.conv1"],
        ],
        [["stage2.1.residual.conv1"], ["stage3.0.projection.conv", "stage3.0.residual.conv1"]],
        [["stage3.1.residual.conv1"], ["pool"]],
    ]
    assert not any(stream.batchnorm(n) for stream in streams_of(model) for n in range(len(stream.values)))


def test_streams_without_bn_end_behind_the_relu():
    """The Relu of an absorbed BN ends the stream, because this Relu alone reads the last Add of a stage."""
    model = graph_of(absorbable_network(BASIC))
    before = [shape_of(stream) for stream in streams_of(model)]
    AbsorbBatchnorm()(model)
    after = [shape_of(stream) for stream in streams_of(model)]
    assert [writers for _, writers in after] == [writers for _, writers in before]
    lasts = [values[-1] for values, _ in after]
    assert lasts == ["stage2.0.preact.relu1", "stage3.0.preact.relu1", "head.relu"]
    assert [values[:-1] for values, _ in after] == [values[:-1] for values, _ in before]


def random(seed, low, high):
    generator = np.random.default_rng(seed)
    return lambda channels: generator.uniform(low, high, channels)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([BASIC, BOTTLENECK]), st.integers(0, 2**32), st.floats(0.01, 5))
def test_shift_moves_the_stream_and_keeps_the_logits(config, seed, size):
    model, draw = sample_graph(config), random(seed, -size, size)
    inside = [str(value.name) for stream in streams_of(model) for value in stream.values]
    before = run_graph(with_outputs(model, inside), IMAGES)
    shifts = [[draw(stream.channels) for _ in stream.values] for stream in streams_of(model)]
    for stream, stream_shifts in zip(streams_of(model), shifts, strict=True):
        stream.shift(model.graph, stream_shifts)
    after = run_graph(with_outputs(model, inside), IMAGES)
    assert relative_error(before[0], after[0]) < 1e-5
    for x, y, shift in zip(before[1:], after[1:], chain(*shifts), strict=True):
        assert relative_error(x + shift[:, None, None], y) < 1e-5


@pytest.mark.parametrize("absorbed", [False, True])
@settings(max_examples=25, deadline=None)
@given(st.sampled_from(TWO_BLOCKS), st.integers(0, 2**32), st.integers(1, 10))
def test_scale_stretches_the_stream_and_keeps_the_logits(absorbed, config, seed, octaves):
    model, draw = graph_of(absorbable_network(config)), random(seed, -octaves, octaves)
    if absorbed:
        AbsorbBatchnorm()(model)
    inside = [str(value.name) for stream in streams_of(model) for value in stream.values]
    before = run_graph(with_outputs(model, inside), IMAGES)
    factors = [2 ** draw(stream.channels) for stream in streams_of(model)]
    for stream, stream_factors in zip(streams_of(model), factors, strict=True):
        stream.scale(stream_factors)
    after = run_graph(with_outputs(model, inside), IMAGES)
    assert relative_error(before[0], after[0]) < 1e-5
    lengths = [len(stream.values) for stream in streams_of(model)]
    per_value = [factor for factor, length in zip(factors, lengths, strict=True) for _ in range(length)]
    for x, y, factor in zip(before[1:], after[1:], per_value, strict=True):
        assert relative_error(x * factor[:, None, None], y) < 1e-5


def with_outputs(model, inside):
    """Return a copy that hands out tensors behind the logits."""
    proto = ir.to_proto(model)
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inside
    )
    return ir.from_proto(proto)


def test_shift_adds_biases_only_where_a_step_is():
    model = sample_graph(BASIC)
    stream = streams_of(model)[0]
    ones = np.ones(stream.channels)
    stream.shift(model.graph, [0 * ones, ones, ones])
    inputs = [len(conv.inputs) for (conv,) in stream.writers]
    assert inputs == [2, 3, 2]
    np.testing.assert_array_equal(constant(node_named(model, "stage1.0.residual.conv2").inputs[2]), ones)


def test_shift_adds_to_the_bias_that_is_there():
    model = sample_graph(BOTTLENECK)
    stream = streams_of(model)[0]
    ones = np.ones(stream.channels)
    projection = stream.writers[0][0]
    for total in (1, 2):
        stream.shift(model.graph, [ones, 0 * ones])
        np.testing.assert_array_equal(constant(projection.inputs[2]), total * ones)


def test_shared_weight_is_refused_and_both_readers_named():
    model = sample_graph(BASIC)
    first, second = (node_named(model, f"stage1.{n}.residual.conv2") for n in (0, 1))
    second.replace_input_with(1, first.inputs[1])
    with pytest.raises(CheckFailed, match=f"is shared by {first.name} and {second.name}"):
        streams_of(model)[0].scale(np.full(16, 2.0))


def test_shared_statistics_are_refused():
    model = sample_graph(BASIC)
    first, second = (node_named(model, f"stage1.{n}.preact.bn1") for n in (0, 1))
    second.replace_input_with(3, first.inputs[3])
    with pytest.raises(CheckFailed, match=f"is shared by {first.name} and {second.name}"):
        streams_of(model)[0].shift(model.graph, [np.ones(16)] * 3)


def test_residual_that_ends_in_no_convolution_is_refused():
    model = sample_graph(BASIC)
    conv, add = node_named(model, "stage1.0.residual.conv2"), node_named(model, "stage1.0.add")
    relu = ir.node("Relu", [conv.outputs[0]], name="relu")
    relu.outputs[0].name = "relu"
    model.graph.insert_after(conv, relu)
    add.replace_input_with(list(add.inputs).index(conv.outputs[0]), relu.outputs[0])
    with pytest.raises(CheckFailed, match=r"Relu relu writes stage1\.0\.add"):
        streams_of(model)


def test_convolution_that_also_writes_elsewhere_is_refused():
    model = sample_graph(BASIC)
    conv = node_named(model, "stage2.1.residual.conv2")
    model.graph.append(ir.node("Relu", [conv.outputs[0]], name="elsewhere"))
    with pytest.raises(CheckFailed, match=rf"Conv {conv.name} writes stage2\.1\.add"):
        streams_of(model)


def read_by(op_type, shape, attributes=None):
    """Make a node that reads a tensor and a weight."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 19})
    weight = initializer(graph, "weight", np.ones(shape, np.float32))
    return ir.node(op_type, [ir.Value(name="x"), weight], attributes or {}, name="reader")


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes"),
    [("Conv", (5, 2, 3, 3), {}), ("Conv", (5, 2, 1, 1), {"group": 1}), ("Gemm", (5, 2), {"transB": 1})],
)
def test_weight_is_divided_along_its_input_channels(op_type, shape, attributes):
    node = read_by(op_type, shape, attributes)
    divide_input(node, np.array([2.0, 4.0]))
    weight = constant(node.inputs[1])
    assert (weight.shape, weight.dtype) == (shape, np.float32)
    assert (weight[:, 0] == 0.5).all()
    assert (weight[:, 1] == 0.25).all()


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes"),
    [
        ("Conv", (2, 1, 3, 3), {"group": 2}),
        ("Gemm", (2, 2), {}),
        ("Gemm", (2, 2), {"transB": 0}),
        ("MatMul", (2, 2), {}),
        ("Add", (2, 1, 1), {}),
        ("Sigmoid", (2,), {}),
    ],
)
def test_other_readers_let_no_factor_through(op_type, shape, attributes):
    with pytest.raises(ValueError, match=f"{op_type} reader does not let a factor through"):
        divide_input(read_by(op_type, shape, attributes), np.array([2.0, 4.0]))


def test_relu_that_is_the_output_lets_no_factor_through():
    relu = ir.node("Relu", [ir.Value(name="x")], name="reader")
    ir.Graph([], relu.outputs, nodes=[relu], opset_imports={"": 19})
    with pytest.raises(ValueError, match="Relu reader"):
        divide_input(relu, np.array([2.0]))
