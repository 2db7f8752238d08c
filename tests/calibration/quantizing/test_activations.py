"""These tests say where Q/DQ pairs stand, in which types and scales, and what the pairs compute."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from quantized_samples import (
    CPU,
    IMAGES,
    OPENVINO,
    calibrated_on,
    config_named,
    dtype_of,
    every_gpu_scheme,
    every_network,
    float_graph,
    nodes_of,
    optimized_operators,
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
    sample_images,
)

import calibration.quantizing.activations
from calibration.quantizing.placement import quantized_uses
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scales import Range
from calibration.quantizing.scheme import FP8, Scheme
from graphs.onnx_file import constant


def expected_edges(config, scheme):
    return {(u.value.name, u.consumer.name, u.index) for u in quantized_uses(float_graph(config), scheme)}


def quantized_edges(model):
    edges = set()
    for node in model.graph:
        for index, value in enumerate(node.inputs):
            dequantize = value.producer() if value is not None else None
            if dequantize is None or dequantize.op_type != "DequantizeLinear":
                continue
            if dequantize.inputs[0].producer() is not None:
                source = pair_of(value)[0].inputs[0]
                edges.add((source.name.replace("images.narrow", "images"), node.name, index))
    return edges


def assert_own_dequantize_each(model):
    for node in nodes_of(model, "DequantizeLinear"):
        assert len(node.outputs[0].uses()) == 1, node.name


@every_network
def test_cpu_pairs_stand_where_they_are_placed(network):
    cpu_graph = shared_graph(network, CPU)
    assert quantized_edges(cpu_graph) == expected_edges(network, CPU)


@every_gpu_scheme
@every_network
def test_gpu_pairs_stand_where_they_are_placed(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    assert quantized_edges(gpu_graph) == expected_edges(network, gpu_scheme)


@every_network
def test_fp8_pairs_stand_at_all_convolutions_but_the_stem(network):
    fp8_graph = shared_graph(network, FP8)
    edges = expected_edges(network, Scheme("gpu", stream="fp16")) - {("images", "stem.conv", 0)}
    assert quantized_edges(fp8_graph) == edges
    assert dtype_of(node_named(fp8_graph, "stem.conv").inputs[1]) == ir.DataType.FLOAT16


@every_network
def test_cpu_activations_are_uint8_with_scalar_scales(network):
    cpu_graph = shared_graph(network, CPU)
    for node in nodes_of(cpu_graph, "QuantizeLinear"):
        _, scale, zero_point = node.inputs
        assert (dtype_of(scale), dtype_of(zero_point)) == (ir.DataType.FLOAT, ir.DataType.UINT8)
        # ONNX Runtime makes no QLinearAdd where a scale has shape [1].
        assert constant(scale).shape == constant(zero_point).shape == ()
        assert constant(scale) > 0


@every_gpu_scheme
@every_network
def test_gpu_activations_are_symmetric_int8_with_float_scales(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    real = real_of(gpu_scheme)
    for node in nodes_of(gpu_graph, "QuantizeLinear"):
        _, scale, zero_point = node.inputs
        assert (dtype_of(scale), dtype_of(zero_point)) == (real, ir.DataType.INT8)
        assert constant(zero_point) == 0
        assert np.isfinite(constant(scale))
        assert constant(scale) > 0


@every_network
def test_fp8_codes_are_e4m3_with_one_scale_a_tensor_and_no_offset(network):
    fp8_graph = shared_graph(network, FP8)
    pairs = nodes_of(fp8_graph, "QuantizeLinear", "DequantizeLinear")
    assert pairs
    for node in pairs:
        _, scale, zero_point = node.inputs
        types = (dtype_of(scale), dtype_of(zero_point))
        assert types == (ir.DataType.FLOAT16, ir.DataType.FLOAT8E4M3FN)
        assert constant(scale).shape == constant(zero_point).shape == ()
        assert constant(scale) > 0 and float(constant(zero_point)) == 0
    types = {dtype_of(value) for value in fp8_graph.graph.initializers.values()}
    assert types == {ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT16}
    assert_own_dequantize_each(fp8_graph)


@every_network
def test_cpu_every_consumer_has_its_own_dequantize(network):
    cpu_graph = shared_graph(network, CPU)
    assert_own_dequantize_each(cpu_graph)


@every_gpu_scheme
@every_network
def test_gpu_every_consumer_has_its_own_dequantize(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    assert_own_dequantize_each(gpu_graph)


@every_network
def test_fp8_pairs_compute_what_numpy_does(network):
    """Compare ONNX Runtime's Q/DQ of every activation with a cast by ml_dtypes."""
    model = quantized(network, FP8)
    pairs = nodes_of(model, "QuantizeLinear")
    for node in pairs:
        dequantize = next(consumer for consumer, _ in node.outputs[0].uses())
        for value in (node.inputs[0], dequantize.outputs[0]):
            value.type = ir.TensorType(ir.DataType.FLOAT16)
            model.graph.outputs.append(value)
    outputs = run_graph(model, 3 * sample_images(2), optimized=False)[1:]  # beyond the ranges: some saturate
    saturated = 0
    for node, before, after in zip(pairs, outputs[::2], outputs[1::2], strict=True):
        scale = np.float32(constant(node.inputs[1]))
        ratio = before.astype(np.float32) / scale
        expected = np.clip(ratio, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
        np.testing.assert_array_equal(after, expected.astype(np.float16))
        saturated += (np.abs(ratio) > 448).sum()
    assert saturated


def test_cpu_relus_on_an_absorbed_stream_cut_its_codes():
    """The ReLUs that share the stream with the next Add do; the others fold into a sum or a convolution."""
    for config in TWO_BLOCKS:
        model = quantized(config, CPU, absorbed=True)
        cut = {node.name: node for node in nodes_of(model, "Clip")}
        expected = {f"stage{stage}.1.preact.relu1" for stage in (1, 2, 3)}
        # Where the first block has a projection, no Add reads what the stem writes.
        if config.block == "basic":
            expected.add("stage1.0.preact.relu1")
        assert cut.keys() == (expected if config.variant == "preact" else set())
        for clip in cut.values():
            codes, lowest = clip.inputs
            _, scale, zero_point = codes.producer().inputs
            assert lowest is zero_point
            assert constant(zero_point).dtype == np.uint8 and constant(zero_point) > 0
            for reader, _ in clip.outputs[0].uses():
                assert [constant(value) for value in reader.inputs[1:]] == [
                    constant(scale),
                    constant(zero_point),
                ]
        assert not nodes_of(model, "BatchNormalization")


def mostly_negative(config):
    """Make a graph and ranges, as if what stage2.0 adds up reached ten times as far below 0 as above."""
    model = float_graph(config, absorbed=True)
    ranges = calibrated_on(model)
    name = node_named(model, "stage2.0.add").outputs[0].name
    high = ranges[name].range.high
    ranges[name] = ranges[name]._replace(range=Range.spanning(-10 * high, high))
    return model, ranges


@pytest.mark.parametrize("config", [c for c in TWO_BLOCKS if c.variant == "preact"], ids=config_named)
def test_cpu_branch_that_the_streams_codes_leave_few_steps_has_its_own(tmp_path, monkeypatch, config):
    model, ranges = mostly_negative(config)
    (exact,) = run_graph(model, IMAGES)
    Quantize(ranges, CPU)(model)
    assert [node.name for node in nodes_of(model, "LeakyRelu")] == ["stage2.1.preact.relu1"]
    operators = optimized_operators(model, tmp_path)
    assert (operators.count("QLinearLeakyRelu"), operators.count("Relu")) == (1, 0)
    (with_lookup,) = run_graph(model, IMAGES, optimized=False)
    monkeypatch.setattr(calibration.quantizing.activations, "_LEAST_STEPS", 0)
    shared, ranges = mostly_negative(config)
    Quantize(ranges, CPU)(shared)
    assert not nodes_of(shared, "LeakyRelu")
    assert snr_db(exact, with_lookup) > snr_db(exact, run_graph(shared, IMAGES, optimized=False)[0])


@pytest.mark.parametrize("config", TWO_BLOCKS, ids=config_named)
def test_openvino_has_int8_where_no_convolution_reads_what_is_signed(config):
    model = quantized(config, OPENVINO, absorbed=False)
    for node in nodes_of(model, "QuantizeLinear"):
        readers = {use.op_type for pair, _ in node.outputs[0].uses() for use, _ in pair.outputs[0].uses()}
        zero_point = constant(node.inputs[2])
        if zero_point.dtype == np.int8:
            assert zero_point == 0
            assert "Conv" not in readers
        else:
            # Behind a ReLU nothing is negative; the images, which the stem reads, are.
            assert zero_point == 0 or node.inputs[0].is_graph_input()
    kinds = {constant(node.inputs[2]).dtype for node in nodes_of(model, "QuantizeLinear")}
    assert kinds == {np.dtype(np.int8), np.dtype(np.uint8)}
