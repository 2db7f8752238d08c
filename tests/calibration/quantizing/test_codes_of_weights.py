"""These tests look at the codes of weights, and at the biases and BN that are corrected for them."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from quantized_samples import (
    CPU,
    IMAGES,
    INT8,
    OPENVINO,
    SCHEMES,
    calibrated_on,
    config_named,
    dtype_of,
    every_gpu_scheme,
    every_network,
    float_graph,
    named,
    nodes_of,
    pair_of,
    quantized,
    real_of,
    shared_graph,
    snr_db,
)
from sample_networks import (
    TWO_BLOCKS,
    node_named,
    run_graph,
    sample_graph,
)

from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scheme import FP8
from graphs.onnx_file import constant, replace_constant
from graphs.streams import streams_of
from models.config import resnet_config


def assert_weights_are_int8_per_output_channel(model, scale_dtype):
    for conv in nodes_of(model, "Conv"):
        dequantize = conv.inputs[1].producer()
        assert dequantize.op_type == "DequantizeLinear"
        codes, scales, zero_points = dequantize.inputs
        channels = constant(codes).shape[0]
        assert dequantize.attributes["axis"].as_int() == 0
        assert [dtype_of(codes), dtype_of(zero_points)] == [ir.DataType.INT8] * 2
        assert dtype_of(scales) == scale_dtype
        assert constant(scales).shape == constant(zero_points).shape == (channels,)
        assert not constant(zero_points).any()
        assert (constant(codes) >= -127).all()
        assert (constant(scales) > 0).all()


@every_network
def test_cpu_weights_are_int8_and_biases_int32(network):
    cpu_graph = shared_graph(network, CPU)
    assert_weights_are_int8_per_output_channel(cpu_graph, ir.DataType.FLOAT)
    for conv in nodes_of(cpu_graph, "Conv"):
        codes, scales = conv.inputs[2].producer().inputs
        assert dtype_of(codes) == ir.DataType.INT32
        activation = constant(pair_of(conv.inputs[0])[1].inputs[1])
        weight_scales = constant(conv.inputs[1].producer().inputs[1])
        np.testing.assert_allclose(constant(scales), weight_scales * activation, rtol=1e-6)


@every_gpu_scheme
@every_network
def test_gpu_weights_are_int8_and_biases_float(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    real = real_of(gpu_scheme)
    assert_weights_are_int8_per_output_channel(gpu_graph, real)
    biases = [conv.inputs[2] for conv in nodes_of(gpu_graph, "Conv") if len(conv.inputs) == 3]
    assert biases
    assert {dtype_of(bias) for bias in biases} == {real}


@every_network
@pytest.mark.parametrize("scheme", INT8, ids=named)
def test_stored_weights_are_the_float_ones_to_half_a_step(network, scheme):
    original = float_graph(network)
    model = quantized(network, scheme)
    for conv in nodes_of(original, "Conv"):
        codes, scales, _ = node_named(model, conv.name).inputs[1].producer().inputs
        step = constant(scales).astype(np.float64)[:, None, None, None]
        error = np.abs(constant(codes) * step - constant(conv.inputs[1]))
        # The weights of the gpu flavour were rounded to float16 before, by up to 127 * 2^-11 = 0.062 steps.
        assert (error <= step * (0.5625 if scheme.flavour == "gpu" else 0.5001)).all(), conv.name


@every_network
def test_fp8_stored_weights_are_the_nearest(network):
    fp8_graph = shared_graph(network, FP8)
    for conv in nodes_of(float_graph(network), "Conv"):
        if conv.name == "stem.conv":
            continue
        codes, scale, _ = node_named(fp8_graph, conv.name).inputs[1].producer().inputs
        weight = constant(conv.inputs[1]).astype(np.float16).astype(np.float64)
        step = constant(scale).astype(np.float64)
        stored = constant(codes).astype(np.float64) * step
        # The error is at most half of a unit in the fourth bit or, below 2^-6 steps, half of the smallest
        # number. The largest weight may be clipped, because the scale was rounded to float16.
        assert (np.abs(stored - weight) <= np.maximum(np.abs(weight) * 2.0**-4, step * 2.0**-10)).all()


def means_of(model, convolutions):
    """Return the mean of every channel of the convolutions' outputs over `IMAGES`."""
    model.graph.outputs.extend(node_named(model, name).outputs[0] for name in convolutions)
    outputs = run_graph(model, IMAGES, optimized=False)[1:]
    return [tensor.mean((0, 2, 3), dtype=np.float64) for tensor in outputs]


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("config", TWO_BLOCKS, ids=config_named)
def test_bias_correction_brings_the_mean_of_every_convolution_nearer(config, absorbed):
    original = float_graph(config, absorbed)
    names = [conv.name for conv in nodes_of(original, "Conv")]
    expected = means_of(original, names)
    corrected, left = (
        means_of(quantized(config, replace(CPU, correct_bias=correct), absorbed), names)
        for correct in (True, False)
    )
    shares = [
        np.square(nearer - mean).sum() / np.square(other - mean).sum()
        for mean, nearer, other in zip(expected, corrected, left, strict=True)
    ]
    # The padded borders and the rounding of activations leave the rest of the error.
    assert max(shares) < 0.8, dict(zip(names, shares, strict=True))
    assert np.median(shares) < 0.1


@every_network
@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_bias_correction_gains_signal_to_noise(network, scheme):
    (expected,) = run_graph(float_graph(network), IMAGES)
    corrected, left = (
        run_graph(quantized(network, replace(scheme, correct_bias=correct)), IMAGES, optimized=False)[0]
        for correct in (True, False)
    )
    assert snr_db(expected, corrected) > snr_db(expected, left) + 1


@pytest.mark.parametrize("scheme", INT8, ids=named)
def test_bias_correction_of_weights_that_are_exact_changes_nothing(scheme):
    """No weight is rounded, because all are multiples of a power of 2 and 127 is the largest multiple."""
    model = float_graph(resnet_config("original", 8))
    for conv in nodes_of(model, "Conv"):
        weight = constant(conv.inputs[1])
        largest = np.abs(weight).max((1, 2, 3), keepdims=True)
        replace_constant(conv.inputs[1], np.rint(127 * weight / largest) * 2.0**-10)
    ranges, proto = calibrated_on(model), ir.to_proto(model)
    logits = []
    for correct in (True, False):
        exact = ir.from_proto(proto)
        Quantize(ranges, replace(scheme, saturation="full", correct_bias=correct))(exact)
        logits.append(run_graph(exact, IMAGES, optimized=False)[0])
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("config", TWO_BLOCKS, ids=config_named)
def test_openvino_keeps_bn_and_leaves_the_stream_without_biases(config):
    model = quantized(config, OPENVINO, absorbed=False)
    exported = sample_graph(config)
    assert len(nodes_of(model, "BatchNormalization")) == len(nodes_of(exported, "BatchNormalization"))
    writers = {c.name for stream in streams_of(exported) for convs in stream.writers for c in convs}
    without = {conv.name for conv in nodes_of(model, "Conv") if len(conv.inputs) == 2}
    assert without == (writers if config.variant == "preact" else set())
