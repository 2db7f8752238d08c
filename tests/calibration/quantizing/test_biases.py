import numpy as np
import pytest
from quantized_samples import OPENVINO, every_network, nodes_of, quantized
from sample_networks import node_named, sample_graph

from calibration.quantizing.biases import QuantizeBiases
from calibration.quantizing.codes import dequantizer, store_codes
from calibration.quantizing.scales import ActivationScale
from graphs.onnx_file import constant
from graphs.passes import PassResult
from models.config import resnet_config

# In a pre-activation network BN is folded into the first convolution, which then has a bias, and not into
# the second one, which has none.
WITH, WITHOUT = "stage1.0.residual.conv1", "stage1.0.residual.conv2"
WEIGHT_SCALES = np.linspace(0.01, 0.02, 16).astype(np.float32)
SCALES = {
    WITH: ActivationScale(np.float32(0.5), np.uint8(0)),
    WITHOUT: ActivationScale(np.float32(0.25), np.uint8(3)),
}


@pytest.fixture
def model():
    graph = sample_graph(resnet_config("preact", 8))
    for name in (WITH, WITHOUT):
        store_codes(graph.graph, node_named(graph, name), 1, np.ones((16, 16, 3, 3), np.int8), WEIGHT_SCALES)
    return graph


def test_codes_count_steps_of_the_products(model):
    bias = constant(node_named(model, WITH).inputs[2])
    assert QuantizeBiases(SCALES)(model) == PassResult("quantize_biases", (WITH,))
    codes, scales = (constant(value) for value in dequantizer(node_named(model, WITH), 2).inputs)
    assert (codes.dtype, codes.shape) == (np.int32, (16,))
    np.testing.assert_array_equal(scales, WEIGHT_SCALES * np.float32(0.5))
    np.testing.assert_array_equal(codes, np.rint(bias.astype(np.float64) / scales))
    assert np.abs(codes * scales - bias).max() <= scales.max() / 2 * 1.0001


def test_convolution_without_a_bias_gets_none(model):
    QuantizeBiases(SCALES)(model)
    assert len(node_named(model, WITHOUT).inputs) == 2


def test_biases_of_other_convolutions_stay_float(model):
    QuantizeBiases({WITHOUT: SCALES[WITHOUT]})(model)
    assert constant(node_named(model, WITH).inputs[2]).dtype == np.float32


@every_network
def test_openvino_has_int32_biases_in_the_scales_of_the_sums(network):
    model = quantized(network, OPENVINO)
    biased = [conv for conv in nodes_of(model, "Conv") if len(conv.inputs) > 2]
    assert biased
    for conv in biased:
        codes, scales = dequantizer(conv, 2).inputs
        assert constant(codes).dtype == np.int32
        activation = constant(dequantizer(conv, 0).inputs[1])
        weights = constant(dequantizer(conv, 1).inputs[1])
        np.testing.assert_allclose(constant(scales), weights * activation, rtol=1e-6)
