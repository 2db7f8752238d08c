"""Q/DQ graphs of both flavours: their structure, their arithmetic, and what runtimes make of them.

Logits are compared in the unoptimized graph, where every Q/DQ pair computes what ONNX defines: the
integer kernels of CPUs without VNNI may saturate, and so differ from machine to machine.
"""

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from quantized_samples import (
    IMAGES,
    calibrated_on,
    float_graph,
    nodes_of,
    optimized_operators,
    quantized,
    snr_db,
)
from sample_networks import (
    FOUR_BLOCKS,
    TWO_BLOCKS,
    graph_of,
    node_named,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
    sample_network,
)

import calibration.quantizing.activations
from artifacts.names import MODEL, MODEL_INT8_CPU, MODEL_INT8_GPU, MODEL_INT8_OPENVINO, RANGES
from artifacts.run_directory import RunDirectory
from calibration.quantizing.placement import quantized_uses
from calibration.quantizing.qdq import FILES, qdq_from_ranges, source_of
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scales import Range
from calibration.quantizing.scheme import FP8, STREAMS, Scheme
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_file, ranges_from_graph
from calibration.rewriting.reparametrize import reparametrized_from_graph
from errors import UserError
from export.audit import audit
from export.graph_from_checkpoint import graph_from_checkpoint
from graphs.onnx_file import card_from_file, constant, graph_from_file, replace_constant, write_graph
from graphs.saturation import not_proved_free, saturation_findings
from graphs.streams import streams_of
from models.config import VARIANTS, resnet_config
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime
from training.checkpoints import checkpoint_from_initialisation
from verification.compare import compare, logits_of_split

NETWORKS = [resnet_config(*named) for named in FOUR_BLOCKS]
CPU, OPENVINO = Scheme("cpu"), Scheme("openvino")
GPU = [Scheme("gpu", stream=stream) for stream in STREAMS["gpu"]]
INT8 = [CPU, OPENVINO, GPU[0]]
# One for each file.
SCHEMES = [*INT8, FP8]


def named(scheme):
    return f"{scheme.flavour}-{scheme.precision}-{scheme.stream}"


def config_named(config):
    return f"{config.variant}-{config.depth}"


@pytest.fixture(scope="module", params=NETWORKS, ids=config_named)
def network(request):
    return request.param


@pytest.fixture(scope="module")
def cpu_graph(network):
    """Not to be changed."""
    return quantized(network, CPU)


@pytest.fixture(scope="module", params=GPU, ids=named)
def gpu_scheme(request):
    return request.param


@pytest.fixture(scope="module")
def gpu_graph(network, gpu_scheme):
    """Not to be changed."""
    return quantized(network, gpu_scheme)


def dtype_of(value):
    return value.const_value.dtype


def pair_of(value):
    """The QuantizeLinear and DequantizeLinear between a tensor and its consumer."""
    dequantize = value.producer()
    assert dequantize.op_type == "DequantizeLinear"
    quantize_node = dequantize.inputs[0].producer()
    assert quantize_node.op_type == "QuantizeLinear"
    # The pair is one: both read the same scale and zero point.
    assert quantize_node.inputs[1:] == dequantize.inputs[1:]
    return quantize_node, dequantize


def assert_own_dequantize_each(model):
    for node in nodes_of(model, "DequantizeLinear"):
        assert len(node.outputs[0].uses()) == 1, node.name


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


# --- cpu -------------------------------------------------------------------------------------


def test_cpu_pairs_stand_where_they_are_placed(network, cpu_graph):
    assert quantized_edges(cpu_graph) == expected_edges(network, CPU)


def test_cpu_activations_are_uint8_with_scalar_scales(cpu_graph):
    for node in nodes_of(cpu_graph, "QuantizeLinear"):
        _, scale, zero_point = node.inputs
        assert (dtype_of(scale), dtype_of(zero_point)) == (ir.DataType.FLOAT, ir.DataType.UINT8)
        # ONNX Runtime makes no QLinearAdd of scales of shape [1].
        assert constant(scale).shape == constant(zero_point).shape == ()
        assert constant(scale) > 0


def test_cpu_weights_are_int8_and_biases_int32(cpu_graph):
    assert_weights_are_int8_per_output_channel(cpu_graph, ir.DataType.FLOAT)
    for conv in nodes_of(cpu_graph, "Conv"):
        codes, scales = conv.inputs[2].producer().inputs
        assert dtype_of(codes) == ir.DataType.INT32
        activation = constant(pair_of(conv.inputs[0])[1].inputs[1])
        weight_scales = constant(conv.inputs[1].producer().inputs[1])
        np.testing.assert_allclose(constant(scales), weight_scales * activation, rtol=1e-6)


def test_cpu_every_consumer_has_its_own_dequantize(cpu_graph):
    assert_own_dequantize_each(cpu_graph)


def test_cpu_holds_no_batchnorm_and_no_float_weights_but_the_classifiers(cpu_graph):
    assert not nodes_of(cpu_graph, "BatchNormalization")
    floats = {
        name
        for name, value in cpu_graph.graph.initializers.items()
        if dtype_of(value) == ir.DataType.FLOAT and not name.endswith((".scale", ".scales"))
    }
    assert floats == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("config", [*NETWORKS, *TWO_BLOCKS], ids=config_named)
def test_cpu_runs_in_integers_between_input_and_pooling(tmp_path, config, absorbed):
    model = quantized(config, CPU, absorbed)
    operators = optimized_operators(model, tmp_path)
    inside = operators[: operators.index("DequantizeLinear") + 1]
    # What it changes to its own layout and back is neither computed nor float.
    assert inside[:2] == ["QuantizeLinear", "Transpose"]
    assert inside[-2:] == ["Transpose", "DequantizeLinear"]
    written = Counter(node.op_type for node in model.graph)
    assert written["Add"] == 3 * config.blocks_per_stage
    # Of codes: what is done to floats stands behind a DequantizeLinear.
    assert Counter(inside[2:-2]) == Counter(
        QLinearConv=written["Conv"], QLinearAdd=written["Add"], Clip=written["Clip"]
    )
    head = operators[len(inside) :]
    assert Counter(head) == {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}


def test_cpu_relus_on_an_absorbed_stream_cut_its_codes():
    """Those that share it with the next Add; the others fold into a sum or a convolution."""
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
    """A graph and its ranges, as if what stage2.0 adds up reached ten times as far below 0 as above."""
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
    (own,) = run_graph(model, IMAGES, optimized=False)
    monkeypatch.setattr(calibration.quantizing.activations, "_LEAST_STEPS", 0)
    shared, ranges = mostly_negative(config)
    Quantize(ranges, CPU)(shared)
    assert not nodes_of(shared, "LeakyRelu")
    assert snr_db(exact, own) > snr_db(exact, run_graph(shared, IMAGES, optimized=False)[0])


def test_cpu_convolutions_behind_cut_codes_cannot_overflow_16_bits():
    """Their input has a zero point, so every code is large, as in the stem."""
    for config in TWO_BLOCKS:
        if config.variant == "original":
            continue
        model = quantized(config, CPU, absorbed=True)
        behind = {
            node.name
            for clip in nodes_of(model, "Clip")
            for dequantize, _ in clip.outputs[0].uses()
            for node, _ in dequantize.outputs[0].uses()
        }
        findings = {finding.node: finding for finding in saturation_findings(model)}
        assert behind
        assert {findings[name].verdict for name in {*behind, "stem.conv"}} == {"free"}
        wide = {
            finding.node: finding
            for finding in saturation_findings(
                quantized(config, Scheme("cpu", saturation="full"), absorbed=True)
            )
        }
        assert "can saturate" in {wide[name].verdict for name in behind}


def test_cpu_file_opens_as_int8_in_onnx_runtime(trained_runs):
    for path in trained_runs.values():
        with OrtRuntime(path / MODEL_INT8_CPU, "int8") as runtime:
            assert runtime.describe()["convolutions"].keys() == {"QLinearConv"}


def test_cpu_stem_cannot_overflow_16_bits(network, cpu_graph):
    stem = node_named(cpu_graph, "stem.conv")
    assert constant(pair_of(stem.inputs[0])[0].inputs[2]) > 0
    codes = constant(stem.inputs[1].producer().inputs[0]).astype(int)
    worst = 0
    for channel in codes.reshape(len(codes), -1).tolist():
        worst = max(worst, *(255 * abs(one + other) for one, other in combinations(channel, 2)))
    assert worst <= 2**15 - 1
    # Yet the range is used: the largest pair takes it up, or the largest weight all codes.
    assert worst > 0.9 * 2**15 or np.abs(codes).max() == 127


def test_cpu_convolutions_behind_a_relu_use_all_codes(cpu_graph):
    for conv in nodes_of(cpu_graph, "Conv"):
        quantize_node, _ = pair_of(conv.inputs[0])
        if constant(quantize_node.inputs[2]) == 0:
            codes = constant(conv.inputs[1].producer().inputs[0])
            assert (np.abs(codes.reshape(len(codes), -1).astype(int)).max(1) == 127).mean() > 0.9


# --- gpu -------------------------------------------------------------------------------------


def test_gpu_pairs_stand_where_they_are_placed(network, gpu_scheme, gpu_graph):
    assert quantized_edges(gpu_graph) == expected_edges(network, gpu_scheme)


@pytest.fixture
def real(gpu_scheme):
    """The type of what is not quantized."""
    return ir.DataType.FLOAT if gpu_scheme.stream == "fp32" else ir.DataType.FLOAT16


def test_gpu_activations_are_symmetric_int8_with_float_scales(gpu_graph, real):
    for node in nodes_of(gpu_graph, "QuantizeLinear"):
        _, scale, zero_point = node.inputs
        assert (dtype_of(scale), dtype_of(zero_point)) == (real, ir.DataType.INT8)
        assert constant(zero_point) == 0
        assert np.isfinite(constant(scale))
        assert constant(scale) > 0


def test_gpu_holds_no_uint8_and_no_int32(gpu_graph, real):
    types = {dtype_of(value) for value in gpu_graph.graph.initializers.values()}
    assert types == {ir.DataType.INT8, real}


def test_gpu_weights_are_int8_and_biases_float(gpu_graph, real):
    assert_weights_are_int8_per_output_channel(gpu_graph, real)
    biases = [conv.inputs[2] for conv in nodes_of(gpu_graph, "Conv") if len(conv.inputs) == 3]
    assert biases
    assert {dtype_of(bias) for bias in biases} == {real}


def test_gpu_every_consumer_has_its_own_dequantize(gpu_graph):
    assert_own_dequantize_each(gpu_graph)


def test_gpu_convolution_flows_straight_into_its_add(gpu_graph, gpu_scheme):
    for add in nodes_of(gpu_graph, "Add"):
        producers = sorted(value.producer().op_type for value in add.inputs)
        assert "Conv" in producers
        assert ("DequantizeLinear" in producers) == (gpu_scheme.stream == "int8")


def test_gpu_graph_has_an_opset_with_float16_scales(gpu_graph):
    assert gpu_graph.graph.opset_imports[""] >= 19


@pytest.mark.parametrize("variant", VARIANTS)
def test_tensorrt_takes_every_convolution_as_int8(tmp_path, variant, gpu_scheme):
    trt = pytest.importorskip("tensorrt_rtx")
    from runtimes.tensorrt.engine_from_onnx import convolution_types

    config = resnet_config(variant, 8)
    model = quantized(config, gpu_scheme)
    convolutions = len(nodes_of(model, "Conv"))
    write_graph(model, sample_card(config).with_precision("int8", "gpu"), tmp_path / "gpu.onnx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse((tmp_path / "gpu.onnx").read_bytes()), parser.get_error(0).desc()
    assert convolution_types(trt, network) == {"int8": convolutions}


def without_pairs(model):
    """The graph with all quantization and all Casts taken out again, and its shapes."""
    graph = model.graph
    for node in list(graph):
        if (
            node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast")
            and node.inputs[0].const_value is None
        ):
            node.outputs[0].replace_all_uses_with(node.inputs[0], replace_graph_outputs=True)
            graph.remove(node, safe=True)
    for conv in nodes_of(model, "Conv"):
        dequantize = conv.inputs[1].producer()
        if dequantize is not None:
            conv.replace_input_with(1, dequantize.inputs[0])
    return model


@pytest.mark.parametrize("scheme", [*GPU, FP8], ids=named)
def test_gpu_skip_path_is_the_one_that_was_audited(network, scheme):
    model = quantized(network, scheme)
    assert audit(without_pairs(model), network) == audit(float_graph(network), network)


@pytest.mark.parametrize(("stream", "dtype"), [("fp16", ir.DataType.FLOAT16), ("fp32", ir.DataType.FLOAT)])
def test_gpu_stream_is_of_the_type_asked_for_and_nothing_narrows_it(tmp_path, network, stream, dtype):
    """Nothing stands on the skip path but Adds, projections and, in an original network, ReLUs."""
    scheme = Scheme("gpu", stream=stream)
    write_graph(quantized(network, scheme), sample_card(network), tmp_path / "gpu.onnx")
    model = graph_from_file(tmp_path / "gpu.onnx")
    for add in nodes_of(model, "Add"):
        assert {value.dtype for value in (*add.inputs, *add.outputs)} == {dtype}
        assert {value.producer().op_type for value in add.inputs} <= {"Conv", "Add", "Relu"}
    for bn in nodes_of(model, "BatchNormalization"):
        assert {value.dtype for value in (*bn.inputs, *bn.outputs)} == {dtype}
    assert ("Cast" in {node.op_type for node in model.graph}) == (stream == "fp16")


# --- fp8 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fp8_graph(network):
    """Not to be changed."""
    return quantized(network, FP8)


def test_fp8_pairs_stand_at_all_convolutions_but_the_stem(network, fp8_graph):
    edges = expected_edges(network, Scheme("gpu", stream="fp16")) - {("images", "stem.conv", 0)}
    assert quantized_edges(fp8_graph) == edges
    assert dtype_of(node_named(fp8_graph, "stem.conv").inputs[1]) == ir.DataType.FLOAT16


def test_fp8_codes_are_e4m3_with_one_scale_a_tensor_and_no_offset(fp8_graph):
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


def test_fp8_stored_weights_are_the_nearest(network, fp8_graph):
    for conv in nodes_of(float_graph(network), "Conv"):
        if conv.name == "stem.conv":
            continue
        codes, scale, _ = node_named(fp8_graph, conv.name).inputs[1].producer().inputs
        weight = constant(conv.inputs[1]).astype(np.float16).astype(np.float64)
        step = constant(scale).astype(np.float64)
        stored = constant(codes).astype(np.float64) * step
        # Half of a unit in the fourth bit; below 2^-6 steps, half of the smallest number. The largest
        # may be clipped, since the scale was rounded to float16.
        assert (np.abs(stored - weight) <= np.maximum(np.abs(weight) * 2.0**-4, step * 2.0**-10)).all()


def test_fp8_pairs_compute_what_numpy_does(network, fp8_graph):
    """ONNX Runtime's Q/DQ of every activation against a cast by ml_dtypes."""
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


def test_fp8_graph_is_valid_and_close_to_the_float_one(tmp_path, network):
    (expected,) = run_graph(float_graph(network), IMAGES)
    write_graph(quantized(network, FP8), sample_card(network), tmp_path / "fp8.onnx")
    (logits,) = run_graph(tmp_path / "fp8.onnx", IMAGES, optimized=False)
    assert 18 < snr_db(expected, logits) < 50


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])
@pytest.mark.parametrize("scheme", [CPU, Scheme("cpu", stream="fp32"), *GPU], ids=named)
def test_graph_is_valid_and_close_to_the_float_one(tmp_path, network, scheme, absorbed):
    (expected,) = run_graph(float_graph(network, absorbed), IMAGES)
    path = tmp_path / "int8.onnx"
    write_graph(quantized(network, scheme, absorbed), sample_card(network), path)
    (logits,) = run_graph(path, IMAGES, optimized=False)
    assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
    assert 20 < snr_db(expected, logits) < 80
    (alone,) = run_graph(path, IMAGES[:1], optimized=False)
    np.testing.assert_allclose(alone, logits[:1], atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("scheme", INT8, ids=named)
def test_stored_weights_are_the_float_ones_to_half_a_step(network, scheme):
    original = float_graph(network)
    model = quantized(network, scheme)
    for conv in nodes_of(original, "Conv"):
        codes, scales, _ = node_named(model, conv.name).inputs[1].producer().inputs
        step = constant(scales).astype(np.float64)[:, None, None, None]
        error = np.abs(constant(codes) * step - constant(conv.inputs[1]))
        # Those of the gpu flavour were rounded to float16 before: 127 * 2^-11 steps more.
        assert (error <= step * (0.5625 if scheme.flavour == "gpu" else 0.5001)).all(), conv.name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", FILES, ids="-".join)
def test_accuracy_is_within_two_points_of_float(trained_runs, digits, variant, kind):
    path = trained_runs[variant]
    with OrtRuntime(path / MODEL, "fp32") as runtime:
        original = logits_of_split(runtime, digits, digits.test, "")
    with ReferenceRuntime(path / FILES[kind], kind[0]) as runtime:
        logits = logits_of_split(runtime, digits, digits.test, "")
    figures = compare(original, logits, digits.test.labels)
    # Otherwise the network has learnt nothing that rounding could spoil.
    assert figures.accuracy + figures.drop > 70
    assert figures.drop <= 2
    assert figures.snr_db > 20


@pytest.mark.parametrize("scheme", [CPU, Scheme("cpu", stream="fp32"), *GPU], ids=named)
def test_dead_tensors_and_channels_stay_finite_and_right(scheme):
    model = sample_network(resnet_config("preact", 8))
    dead = model.get_submodule("stage2.0.residual.bn2")
    dead.weight.data.zero_()
    dead.bias.data.fill_(-1)  # a tensor that is zero throughout, behind weights that fold to zero
    model.get_submodule("stage3.0.residual.conv1").weight.data[::2] = 0
    model.get_submodule("stem.conv").weight.data[3] = 0
    graph = graph_of(model)
    (expected,) = run_graph(graph, IMAGES)
    found = calibrated_on(graph)
    assert found["stage2.0.residual.relu2"].range == (0, 0, 0)
    Quantize(found, scheme)(graph)
    for name, value in graph.graph.initializers.items():
        assert np.isfinite(constant(value).astype(np.float64)).all(), name
    (logits,) = run_graph(graph, IMAGES, optimized=False)
    assert np.isfinite(logits).all()
    assert snr_db(expected, logits) > 20
    if scheme.flavour == "cpu":
        assert np.isfinite(run_graph(graph, IMAGES)[0]).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_all_ranges_empty_is_still_a_graph(scheme):
    model = float_graph(resnet_config("preact", 8))
    empty = {name: entry._replace(range=Range(0, 0, 0)) for name, entry in calibrated_on(model).items()}
    Quantize(empty, scheme)(model)
    assert np.isfinite(run_graph(model, IMAGES[:2], optimized=False)[0]).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_ranges_of_another_network_are_refused(scheme):
    other = calibrated_on(float_graph(resnet_config("original", 8)))
    with pytest.raises(UserError, match=r"no range for .*another network"):
        Quantize(other, scheme)(float_graph(resnet_config("preact", 8)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_files_are_written_once_and_carry_their_flavour(run, scheme):
    path = run.path / FILES[scheme.precision, scheme.flavour]
    assert not qdq_from_ranges(run, scheme)
    before = path.read_bytes()
    assert qdq_from_ranges(run, scheme, force=True)
    assert path.read_bytes() == before
    card, original = card_from_file(path), card_from_file(run.path / MODEL)
    assert (card.precision, card.flavour) == (scheme.precision, scheme.flavour)
    # TensorRT has no FP8 kernel for the three channels of the stem.
    assert card.float_convolutions == (1 if scheme.precision == "fp8" else 0)
    assert card.is_same_network(original)
    assert run.record(path.name).options == json.loads(json.dumps(scheme.to_json()))


@pytest.mark.parametrize("scheme", [Scheme("gpu", stream="fp16"), Scheme("cpu", stream="fp32")], ids=named)
def test_other_stream_makes_another_file_of_its_flavour_alone(preact_run, scheme):
    before = {name: (preact_run.path / name).read_bytes() for name in FILES.values()}
    assert qdq_from_ranges(preact_run, scheme)
    changed = FILES[scheme.precision, scheme.flavour]
    for name, content in before.items():
        assert ((preact_run.path / name).read_bytes() != content) == (name == changed)
    assert preact_run.record(changed).options["stream"] == scheme.stream


def test_other_ranges_make_other_files(preact_run, digits):
    before = (preact_run.path / MODEL_INT8_CPU).read_bytes()
    ranges_from_graph(preact_run, digits, Method("minmax"))
    assert qdq_from_ranges(preact_run, CPU)
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() != before


def test_other_reparametrization_is_not_quantized_by_the_ranges_of_the_former(preact_run, digits):
    reparametrized_from_graph(preact_run, digits, ())
    with pytest.raises(UserError, match=r"made from another model\.reparametrized\.onnx") as refusal:
        qdq_from_ranges(preact_run, CPU)
    assert refusal.value.fix == "calibrate again"


def test_scales_are_those_of_the_ranges_file(preact_run, digits):
    # With this method the two flavours clip at different points.
    ranges_from_graph(preact_run, digits, Method("mse"))
    for scheme in SCHEMES:
        qdq_from_ranges(preact_run, scheme)
        found = ranges_from_file(preact_run.path / RANGES, source_of(scheme))
        model = graph_from_file(preact_run.path / FILES[scheme.precision, scheme.flavour])
        for node in nodes_of(model, "QuantizeLinear"):
            low, high, amax = found[node.inputs[0].name.replace("images.narrow", "images")].range
            on_gpu = amax / (448 if scheme.precision == "fp8" else 127)
            of_int8 = dtype_of(node.inputs[2]) == ir.DataType.INT8 or not scheme.is_for_cpus
            width = on_gpu if of_int8 else (high - low) / 255
            assert float(constant(node.inputs[1])) == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_ranges_of_former_weights_are_refused(tmp_path, digits, scheme):
    run = RunDirectory(tmp_path)
    few = replace(digits, calibration=digits.calibration.subset(np.arange(10)))
    for seed in (0, 1):
        checkpoint_from_initialisation(run, resnet_config("preact", 8), digits, seed)
        graph_from_checkpoint(run)
        reparametrized_from_graph(run, few)
        if seed == 0:
            ranges_from_graph(run, few, Method())
    with pytest.raises(UserError, match=r"another model\.reparametrized\.(bn\.)?onnx"):
        qdq_from_ranges(run, scheme)
    assert FILES[scheme.precision, scheme.flavour] not in run


# --- bias correction -------------------------------------------------------------------------


def means_of(model, convolutions):
    """Of every channel of the convolutions' outputs over `IMAGES`."""
    model.graph.outputs.extend(node_named(model, name).outputs[0] for name in convolutions)
    found = run_graph(model, IMAGES, optimized=False)[1:]
    return [tensor.mean((0, 2, 3), dtype=np.float64) for tensor in found]


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
    # What is left is of the padded borders and of activations' rounding.
    assert max(shares) < 0.8, dict(zip(names, shares, strict=True))
    assert np.median(shares) < 0.1


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
    """Multiples of a power of 2 with 127 the largest: no weight is rounded."""
    model = float_graph(resnet_config("original", 8))
    for conv in nodes_of(model, "Conv"):
        weight = constant(conv.inputs[1])
        largest = np.abs(weight).max((1, 2, 3), keepdims=True)
        replace_constant(conv.inputs[1], np.rint(127 * weight / largest) * 2.0**-10)
    found, proto = calibrated_on(model), ir.to_proto(model)
    logits = []
    for correct in (True, False):
        exact = ir.from_proto(proto)
        Quantize(found, replace(scheme, saturation="full", correct_bias=correct))(exact)
        logits.append(run_graph(exact, IMAGES, optimized=False)[0])
    np.testing.assert_array_equal(*logits)


# --- saturation ------------------------------------------------------------------------------


def _unsafe(saturation, network):
    model = quantized(network, Scheme("cpu", saturation=saturation))
    findings = saturation_findings(model)
    assert len(findings) == len(nodes_of(model, "Conv"))
    return not_proved_free(findings)


def test_proved_graph_is_saturation_free(network):
    assert _unsafe("proved", network) == []


def test_stem_alone_is_safe_by_default_and_nothing_in_the_full_graph(network):
    stem, full = _unsafe("stem", network), _unsafe("full", network)
    assert "stem.conv" not in stem
    assert set(full) > set(stem)
    assert "stem.conv" in full


def test_saturation_stands_in_the_card_of_the_cpu_file_alone(preact_run):
    assert card_from_file(preact_run.verified(MODEL_INT8_CPU)).saturation == "stem"
    assert card_from_file(preact_run.verified(MODEL_INT8_GPU)).saturation == ""
    assert qdq_from_ranges(preact_run, Scheme("cpu", saturation="proved"))
    assert not qdq_from_ranges(preact_run, Scheme("cpu", saturation="proved"))
    assert not qdq_from_ranges(preact_run, Scheme("gpu", saturation="proved"))
    assert card_from_file(preact_run.verified(MODEL_INT8_CPU)).saturation == "proved"


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
            # Behind a ReLU nothing is signed; the images are, and the stem reads them.
            assert zero_point == 0 or node.inputs[0].is_graph_input()
    kinds = {constant(node.inputs[2]).dtype for node in nodes_of(model, "QuantizeLinear")}
    assert kinds == {np.dtype(np.int8), np.dtype(np.uint8)}


@pytest.mark.parametrize("config", TWO_BLOCKS, ids=config_named)
def test_openvino_keeps_bn_and_leaves_the_stream_without_biases(config):
    model = quantized(config, OPENVINO, absorbed=False)
    exported = sample_graph(config)
    assert len(nodes_of(model, "BatchNormalization")) == len(nodes_of(exported, "BatchNormalization"))
    writers = {c.name for stream in streams_of(exported) for convs in stream.writers for c in convs}
    without = {conv.name for conv in nodes_of(model, "Conv") if len(conv.inputs) == 2}
    assert without == (writers if config.variant == "preact" else set())


@pytest.mark.parametrize("variant", VARIANTS)
def test_openvino_runs_its_file_in_integers(trained_runs, variant):
    with OpenVinoRuntime(trained_runs[variant] / MODEL_INT8_OPENVINO, "int8") as runtime:
        found = runtime.describe()["convolutions"]
    assert set(found) <= {"i8", "u8"}
    with pytest.raises(UserError, match="is int8 for openvino"):
        OrtRuntime(trained_runs[variant] / MODEL_INT8_OPENVINO, "int8").__enter__()
