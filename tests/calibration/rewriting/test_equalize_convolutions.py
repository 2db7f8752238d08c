import numpy as np
import pytest
from quantized_samples import float_graph
from sample_networks import node_named, relative_error, run_graph, sample_graph, sample_images

from calibration.quantizing.free_codes import convolutions_with_free_codes
from calibration.quantizing.scheme import RTX
from calibration.rewriting.equalize_convolutions import LARGEST_FACTOR, EqualizeConvolutions
from graphs.onnx_file import constant, replace_constant
from models.config import resnet_config

IMAGES = sample_images(4)
CONV1 = "stage2.0.residual.conv1"


def reach(model, conv):
    """Largest weight of each output channel."""
    weight = constant(node_named(model, conv).inputs[1])
    return np.abs(weight).reshape(len(weight), -1).max(1)


def scale_channels(model, conv, factors):
    for parameter in node_named(model, conv).inputs[1:]:
        array = constant(parameter)
        replace_constant(parameter, array * factors.reshape(-1, *[1] * (array.ndim - 1)))


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_channels_are_made_alike_and_the_network_stays(variant):
    model = sample_graph(resnet_config(variant, 8))
    (expected,) = run_graph(model, IMAGES)
    before = reach(model, CONV1)
    assert EqualizeConvolutions({CONV1})(model).changed == (CONV1,)
    (logits,) = run_graph(model, IMAGES)
    assert relative_error(expected, logits) < 1e-5
    assert before.max() / before.min() > 1.2
    np.testing.assert_allclose(reach(model, CONV1), before.max(), rtol=1e-6)


@pytest.mark.parametrize("depth", [14, 20])
@pytest.mark.parametrize("variant", ["preact", "original"])
def test_all_that_are_quantized_for_rtx_leave_the_network_as_it_is(variant, depth):
    config = resnet_config(variant, depth, "basic" if depth == 14 else "bottleneck")
    model = float_graph(config)
    (expected,) = run_graph(model, IMAGES)
    quantized = {conv.name for conv in convolutions_with_free_codes(model, RTX)}
    refused = EqualizeConvolutions(quantized)(model).refused
    (logits,) = run_graph(model, IMAGES)
    assert relative_error(expected, logits) < 1e-5
    # Those that write the stream, and no others.
    writers = {name for name in quantized if "projection" in name}
    last = "conv2" if depth == 14 else "conv3"
    writers |= {name for name in quantized if name.endswith(last)}
    assert set(refused) == writers
    assert all(reason.startswith("Add ") for reason in refused.values())


def test_small_channel_is_scaled_no_further_than_the_limit():
    model = sample_graph(resnet_config("preact", 8))
    factors = np.ones(len(reach(model, CONV1)))
    factors[3] = 1e-5
    scale_channels(model, CONV1, factors)
    before = reach(model, CONV1)
    (expected,) = run_graph(model, IMAGES)
    EqualizeConvolutions({CONV1})(model)
    assert reach(model, CONV1)[3] == pytest.approx(before[3] * LARGEST_FACTOR)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


@pytest.mark.parametrize("dead", [slice(3, 4), slice(None)], ids=["one channel", "all"])
def test_channel_without_weights_keeps_its_bias(dead):
    model = sample_graph(resnet_config("preact", 8))
    conv = node_named(model, CONV1)
    weight = constant(conv.inputs[1]).copy()
    weight[dead] = 0
    replace_constant(conv.inputs[1], weight)
    before = constant(conv.inputs[2]).copy()
    (expected,) = run_graph(model, IMAGES)
    EqualizeConvolutions({CONV1})(model)
    np.testing.assert_array_equal(constant(conv.inputs[2])[dead], before[dead])
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


def test_convolution_behind_which_an_addition_stands_is_refused():
    """Twin of the first test: the other operand would have to be scaled too."""
    model = sample_graph(resnet_config("preact", 8))
    conv2 = "stage2.0.residual.conv2"
    before = constant(node_named(model, conv2).inputs[1]).copy()
    assert EqualizeConvolutions({conv2})(model).refused == {conv2: "Add stage2.0.add reads its output"}
    np.testing.assert_array_equal(constant(node_named(model, conv2).inputs[1]), before)


def test_convolution_that_a_quantized_one_reads_is_refused():
    """Twin of the first test: the range of the second one's input is measured already."""
    model = sample_graph(resnet_config("preact", 8))
    conv2 = "stage2.0.residual.conv2"
    before = constant(node_named(model, CONV1).inputs[1]).copy()
    refused = EqualizeConvolutions({CONV1, conv2})(model).refused
    assert refused[CONV1] == f"Conv {conv2} reads its output in codes"
    np.testing.assert_array_equal(constant(node_named(model, CONV1).inputs[1]), before)


def test_what_is_not_named_is_left():
    model = sample_graph(resnet_config("preact", 8))
    before = reach(model, CONV1)
    assert EqualizeConvolutions(set())(model).changed == ()
    np.testing.assert_array_equal(reach(model, CONV1), before)
