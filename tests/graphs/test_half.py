import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from sample_networks import (
    FOUR_BLOCKS,
    node_named,
    op_types,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
)

from errors import CheckFailed
from graphs.half import convert_to_half
from graphs.onnx_file import constant, graph_from_file, initializer, write_graph
from models.config import resnet_config

LARGEST = 65504.0


def halved(variant="preact", depth=8):
    model = sample_graph(resnet_config(variant, depth))
    convert_to_half(model)
    return model


def evaluated(model, images):
    """By ONNX's reference implementation: ONNX Runtime has no float16 kernels on x86, takes the Casts
    that it puts around each operator out again in pairs, and so rounds nothing in between.
    """
    return ReferenceEvaluator(ir.to_proto(model)).run(None, {"images": images})[0]


def with_bias(value):
    model = sample_graph(resnet_config("preact", 8))
    bias = node_named(model, "classifier").inputs[2]
    array = constant(bias).copy()
    array[3] = value
    bias.const_value = ir.tensor(array, name=bias.name)
    return model


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_every_tensor_inside_is_float16_and_the_border_float32(tmp_path, variant, depth):
    config = resnet_config(variant, depth)
    write_graph(halved(variant, depth), sample_card(config), tmp_path / "half.onnx")
    # Read back, so that the types are the checker's and not those the pass noted down.
    model = graph_from_file(tmp_path / "half.onnx")
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.FLOAT] * 2
    inside = [node.outputs[0] for node in model.graph if node.outputs[0] not in model.graph.outputs]
    assert {value.dtype for value in inside} == {ir.DataType.FLOAT16}
    assert {value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT16}


def test_casts_stand_at_the_border_alone():
    before, after = sample_graph(resnet_config("preact", 8)), halved()
    assert op_types(after) == ["Cast", *op_types(before), "Cast"]
    assert [v.name for v in (*after.graph.inputs, *after.graph.outputs)] == ["images", "logits"]


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_logits_are_close_but_not_equal(variant, depth):
    images = sample_images(2)
    expected = run_graph(sample_graph(resnet_config(variant, depth)), images)[0]
    logits = evaluated(halved(variant, depth), images)
    assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 0 < error < 1e-2
    # A float16 cast to float32: the arithmetic really was half.
    np.testing.assert_array_equal(logits, logits.astype(np.float16))


def test_batch_stays_dynamic():
    model = halved()
    images = sample_images(3)
    together, alone = run_graph(model, images)[0], run_graph(model, images[:1])[0]
    assert together.shape == (3, 10)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-3, atol=1e-3)


def test_number_of_converted_initializers_is_returned():
    model = sample_graph(resnet_config("preact", 8))
    floats = len(model.graph.initializers)
    codes = initializer(model.graph, "codes", np.zeros(4, np.int8))
    assert convert_to_half(model) == floats
    assert codes.dtype == ir.DataType.INT8


def test_weights_are_rounded_to_nearest():
    weight = constant(node_named(sample_graph(resnet_config("preact", 8)), "stem.conv").inputs[1])
    half = constant(node_named(halved(), "stem.conv").inputs[1])
    assert half.dtype == np.float16
    # 11 significant bits: half a unit in the last place.
    assert (np.abs(half - weight) <= 2.0**-11 * np.abs(weight) + 2.0**-25).all()


@pytest.mark.parametrize("value", [LARGEST + 32, -1e5, np.inf])
def test_weight_beyond_float16_is_refused_and_named(value):
    with pytest.raises(CheckFailed, match=r"classifier\.bias .*65504"):
        convert_to_half(with_bias(value))


@pytest.mark.parametrize("value", [LARGEST, -LARGEST])
def test_largest_float16_is_kept(value):
    model = with_bias(value)
    convert_to_half(model)
    assert constant(node_named(model, "classifier").inputs[2])[3] == value
