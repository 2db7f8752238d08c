import numpy as np
import onnx_ir as ir
import pytest
from sample_networks import node_named, run_graph, sample_graph, sample_images

from calibration.quantizing.codes import dequantizer, store_codes
from graphs.onnx_file import constant
from models.config import resnet_config

CONV = "stage1.0.residual.conv1"


@pytest.fixture
def model():
    return sample_graph(resnet_config("preact", 8))


@pytest.mark.parametrize("shape", [(16,), ()], ids=["one scale a channel", "one scale"])
def test_codes_stand_behind_a_dequantizer_under_the_name_of_the_constant(model, shape):
    conv = node_named(model, CONV)
    exact = np.random.default_rng(0).integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
    scales = np.full(shape, 2.0**-8, np.float32)
    store_codes(model.graph, conv, 1, exact, scales)
    dequantize = dequantizer(conv, 1)
    assert dequantize.outputs[0].name == f"{CONV}.weight.dequantized"
    codes, stored_scales, zero_points = dequantize.inputs
    assert [codes.name, stored_scales.name, zero_points.name] == [
        f"{CONV}.weight.{what}" for what in ("codes", "scales", "zero_points")
    ]
    np.testing.assert_array_equal(constant(codes), exact)
    assert (constant(zero_points).dtype, constant(zero_points).shape) == (np.int8, shape)
    assert f"{CONV}.weight" not in model.graph.initializers
    # The same numbers as floats give the same logits.
    twin = sample_graph(resnet_config("preact", 8))
    twin_weight = node_named(twin, CONV).inputs[1]
    twin_weight.const_value = ir.tensor(exact * np.float32(2.0**-8), name=twin_weight.name)
    images = sample_images(2)
    logits = [run_graph(graph, images, optimized=False)[0] for graph in (model, twin)]
    np.testing.assert_array_equal(*logits)


def test_int32_codes_have_no_zero_point(model):
    conv = node_named(model, CONV)
    store_codes(model.graph, conv, 2, np.arange(16, dtype=np.int32), np.full(16, 0.5, np.float32))
    assert [value.name for value in dequantizer(conv, 2).inputs] == [
        f"{CONV}.bias.codes",
        f"{CONV}.bias.scales",
    ]


def test_constant_that_another_node_reads_is_left_to_that_node(model):
    conv, other = node_named(model, CONV), node_named(model, "stage1.0.residual.conv2")
    weight = conv.inputs[1]
    other.replace_input_with(1, weight)
    store_codes(model.graph, conv, 1, np.zeros((16, 16, 3, 3), np.int8), np.ones(16, np.float32))
    assert other.inputs[1] is weight
    assert f"{CONV}.weight" in model.graph.initializers


@pytest.mark.parametrize("index", [0, 1, 2, 3], ids=["an activation", "a weight", "a bias", "no input"])
def test_float_inputs_have_no_dequantizer(model, index):
    assert dequantizer(node_named(model, CONV), index) is None
