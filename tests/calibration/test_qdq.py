"""Q/DQ graphs of both flavours: their structure, their arithmetic, and what runtimes make of them.

Logits are compared in the unoptimized graph, where every Q/DQ pair computes what ONNX defines: the
integer kernels of CPUs without VNNI may saturate, and so differ from machine to machine.
"""

from collections import Counter
from itertools import combinations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from sample_networks import (
    graph_of,
    node_named,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
    sample_network,
)

from artifacts import MODEL, MODEL_FP8_GPU, MODEL_INT8_CPU, MODEL_INT8_GPU, RANGES, RunDirectory
from calibration.methods import Method, Range
from calibration.placement import quantized_uses
from calibration.qdq import FILES, STREAMS, fp8_from_ranges, qdq_from_ranges, quantize, quantize_to_fp8
from calibration.ranges import observe, ranges_from_file, ranges_from_graph
from calibration.scales import Range
from errors import UserError
from export.audit import audit
from export.graph_from_checkpoint import graph_from_checkpoint
from graphs.onnx_file import card_from_file, constant, graph_from_file, write_graph
from graphs.saturation import not_proved_free, saturation_findings
from models.config import VARIANTS, resnet_config
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime
from training.checkpoints import checkpoint_from_initialisation
from verification.compare import compare, logits_of

NETWORKS = [("preact", 8), ("preact", 11), ("original", 8), ("original", 11)]
# What a convolution, an addition and the layout around them become; nothing here is float.
INTEGER_OPERATORS = {"QLinearConv", "QLinearAdd", "QLinearLeakyRelu", "Transpose"}


def ranges_of(model, images=None):
    images = sample_images(8) if images is None else images
    return {name: Method("minmax").range_of(h) for name, h in observe(model, images).items()}


def quantized(variant, depth, flavour, stream="int8", saturation="stem"):
    model = sample_graph(resnet_config(variant, depth))
    quantize(model, ranges_of(model), flavour, stream, saturation)
    return model


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda n: "-".join(map(str, n)))
def network(request):
    return request.param


@pytest.fixture(scope="module")
def cpu_graph(network):
    """Not to be changed."""
    return quantized(*network, "cpu")


@pytest.fixture(scope="module", params=STREAMS)
def gpu_graph(request, network):
    """Not to be changed."""
    return quantized(*network, "gpu", request.param)


def nodes_of(model, *op_types):
    return [node for node in model.graph if node.op_type in op_types]


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


def snr_db(expected, actual):
    return 10 * np.log10((expected**2).sum() / ((expected - actual) ** 2).sum())


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


def expected_edges(variant, depth, flavour, stream="int8"):
    model = sample_graph(resnet_config(variant, depth))
    return {(u.value.name, u.consumer.name, u.index) for u in quantized_uses(model, flavour, stream)}


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
    assert quantized_edges(cpu_graph) == expected_edges(*network, "cpu")


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
        if len(conv.inputs) == 2:
            continue
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


def optimized_operators(model, tmp_path):
    """Operators in order of execution, as ONNX Runtime runs a graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]


def test_cpu_runs_in_integers_between_input_and_pooling(network, cpu_graph, tmp_path):
    operators = optimized_operators(cpu_graph, tmp_path)
    assert operators[0] == "QuantizeLinear"
    assert operators.count("QuantizeLinear") == operators.count("DequantizeLinear") == 1
    inside = operators[1 : operators.index("DequantizeLinear")]
    assert set(inside) <= INTEGER_OPERATORS
    assert inside.count("QLinearAdd") == 3
    assert inside.count("QLinearConv") == len(nodes_of(cpu_graph, "Conv"))
    head = operators[operators.index("DequantizeLinear") + 1 :]
    assert Counter(head) == {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}


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


def test_gpu_pairs_stand_where_they_are_placed(network, gpu_graph, request):
    stream = request.node.callspec.params["gpu_graph"]
    assert quantized_edges(gpu_graph) == expected_edges(*network, "gpu", stream)


@pytest.fixture
def real(request):
    """The type of what is not quantized."""
    stream = request.node.callspec.params["gpu_graph"]
    return ir.DataType.FLOAT if stream == "fp32" else ir.DataType.FLOAT16


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


def test_gpu_convolution_flows_straight_into_its_add(gpu_graph, request):
    stream = request.node.callspec.params["gpu_graph"]
    for add in nodes_of(gpu_graph, "Add"):
        producers = sorted(value.producer().op_type for value in add.inputs)
        assert "Conv" in producers
        assert ("DequantizeLinear" in producers) == (stream == "int8")


def test_gpu_graph_has_an_opset_with_float16_scales(gpu_graph):
    assert gpu_graph.graph.opset_imports[""] >= 19


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_tensorrt_takes_every_convolution_as_int8(tmp_path, variant, stream):
    trt = pytest.importorskip("tensorrt_rtx")
    from runtimes.engine_from_onnx import convolution_types

    config = resnet_config(variant, 8)
    model = quantized(variant, 8, "gpu", stream)
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


@pytest.mark.parametrize("graph", [*STREAMS, "fp8"])
def test_gpu_skip_path_is_the_one_that_was_audited(network, graph):
    model = fp8(*network) if graph == "fp8" else quantized(*network, "gpu", graph)
    config = resnet_config(*network)
    assert audit(without_pairs(model), config) == audit(sample_graph(config), config)


@pytest.mark.parametrize(("stream", "dtype"), [("fp16", ir.DataType.FLOAT16), ("fp32", ir.DataType.FLOAT)])
def test_gpu_stream_is_of_the_type_asked_for_and_nothing_narrows_it(tmp_path, network, stream, dtype):
    """Nothing stands on the skip path but Adds, projections and, in an original network, ReLUs."""
    config = resnet_config(*network)
    write_graph(quantized(*network, "gpu", stream), sample_card(config), tmp_path / "gpu.onnx")
    model = graph_from_file(tmp_path / "gpu.onnx")
    for add in nodes_of(model, "Add"):
        assert {value.dtype for value in (*add.inputs, *add.outputs)} == {dtype}
        assert {value.producer().op_type for value in add.inputs} <= {"Conv", "Add", "Relu"}
    for bn in nodes_of(model, "BatchNormalization"):
        assert {value.dtype for value in (*bn.inputs, *bn.outputs)} == {dtype}
    assert ("Cast" in {node.op_type for node in model.graph}) == (stream == "fp16")


# --- fp8 -------------------------------------------------------------------------------------


def fp8(variant, depth):
    model = sample_graph(resnet_config(variant, depth))
    quantize_to_fp8(model, ranges_of(model))
    return model


@pytest.fixture(scope="module")
def fp8_graph(network):
    """Not to be changed."""
    return fp8(*network)


def test_fp8_pairs_stand_at_all_convolutions_but_the_stem(network, fp8_graph):
    edges = expected_edges(*network, "gpu", "fp16") - {("images", "stem.conv", 0)}
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
    for conv in nodes_of(sample_graph(resnet_config(*network)), "Conv"):
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
    model = fp8(*network)
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


def test_fp8_graph_is_valid_and_close_to_the_float_one(tmp_path, network, fp8_graph):
    images = sample_images(8)
    config = resnet_config(*network)
    (expected,) = run_graph(sample_graph(config), images)
    write_graph(fp8(*network), sample_card(config), tmp_path / "fp8.onnx")
    (logits,) = run_graph(tmp_path / "fp8.onnx", images, optimized=False)
    assert 18 < snr_db(expected, logits) < 50


def test_fp8_file_is_written_once_and_carries_its_flavour(run):
    assert not fp8_from_ranges(run)
    before = (run.path / MODEL_FP8_GPU).read_bytes()
    assert fp8_from_ranges(run, force=True)
    assert (run.path / MODEL_FP8_GPU).read_bytes() == before
    card, original = card_from_file(run.path / MODEL_FP8_GPU), card_from_file(run.path / MODEL)
    assert (card.precision, card.flavour) == ("fp8", "gpu")
    assert card.is_same_network(original)


def test_fp8_of_dead_tensors_is_finite():
    model = sample_graph(resnet_config("preact", 8))
    quantize_to_fp8(model, dict.fromkeys(ranges_of(model), Range(0, 0)))
    assert np.isfinite(run_graph(model, sample_images(2), optimized=False)[0]).all()


def test_fp8_with_ranges_of_another_network_is_refused():
    other = ranges_of(sample_graph(resnet_config("original", 8)))
    with pytest.raises(UserError, match=r"no range for .*another network"):
        quantize_to_fp8(sample_graph(resnet_config("preact", 8)), other)


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flavour", "stream"), [("cpu", "int8"), ("gpu", "int8"), ("gpu", "fp16"), ("gpu", "fp32")]
)
def test_graph_is_valid_and_close_to_the_float_one(tmp_path, network, flavour, stream):
    config = resnet_config(*network)
    images = sample_images(8)
    (expected,) = run_graph(sample_graph(config), images)
    path = tmp_path / "int8.onnx"
    write_graph(quantized(*network, flavour, stream), sample_card(config), path)
    (logits,) = run_graph(path, images, optimized=False)
    assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
    assert 20 < snr_db(expected, logits) < 80
    (alone,) = run_graph(path, images[:1], optimized=False)
    np.testing.assert_allclose(alone, logits[:1], atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("flavour", FILES)
def test_stored_weights_are_the_float_ones_to_half_a_step(network, flavour):
    original = sample_graph(resnet_config(*network))
    model = quantized(*network, flavour)
    for conv in nodes_of(original, "Conv"):
        codes, scales, _ = node_named(model, conv.name).inputs[1].producer().inputs
        step = constant(scales).astype(np.float64)[:, None, None, None]
        error = np.abs(constant(codes) * step - constant(conv.inputs[1]))
        # Those of the gpu flavour were rounded to float16 before: 127 * 2^-11 steps more.
        assert (error <= step * (0.5625 if flavour == "gpu" else 0.5001)).all(), conv.name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("flavour", FILES)
def test_accuracy_is_within_two_points_of_float(trained_runs, digits, variant, flavour):
    path = trained_runs[variant]
    with OrtRuntime(path / MODEL, "fp32") as runtime:
        original = logits_of(runtime, digits, digits.test, "")
    with ReferenceRuntime(path / FILES[flavour], "int8") as runtime:
        logits = logits_of(runtime, digits, digits.test, "")
    figures = compare(original, logits, digits.test.labels)
    # Otherwise the network has learnt nothing that rounding could spoil.
    assert figures.accuracy + figures.drop > 70
    assert figures.drop <= 2
    assert figures.snr_db > 20


@pytest.mark.parametrize(
    ("flavour", "stream"), [("cpu", "int8"), ("gpu", "int8"), ("gpu", "fp16"), ("gpu", "fp32")]
)
def test_dead_tensors_and_channels_stay_finite_and_right(flavour, stream):
    model = sample_network(resnet_config("preact", 8))
    dead = model.get_submodule("stage2.0.residual.bn2")
    dead.weight.data.zero_()
    dead.bias.data.fill_(-1)  # a tensor that is zero throughout, behind weights that fold to zero
    model.get_submodule("stage3.0.residual.conv1").weight.data[::2] = 0
    model.get_submodule("stem.conv").weight.data[3] = 0
    graph = graph_of(model)
    images = sample_images(8)
    (expected,) = run_graph(graph, images)
    ranges = ranges_of(graph)
    assert ranges["stage2.0.residual.relu2"] == (0, 0, 0)
    quantize(graph, ranges, flavour, stream)
    for name, value in graph.graph.initializers.items():
        assert np.isfinite(constant(value).astype(np.float64)).all(), name
    (logits,) = run_graph(graph, images, optimized=False)
    assert np.isfinite(logits).all()
    assert snr_db(expected, logits) > 20
    if flavour == "cpu":
        assert np.isfinite(run_graph(graph, images)[0]).all()


@pytest.mark.parametrize("flavour", FILES)
def test_all_ranges_empty_is_still_a_graph(flavour):
    model = sample_graph(resnet_config("preact", 8))
    quantize(model, dict.fromkeys(ranges_of(model), Range(0, 0, 0)), flavour)
    assert np.isfinite(run_graph(model, sample_images(2), optimized=False)[0]).all()


@pytest.mark.parametrize("flavour", FILES)
def test_ranges_of_another_network_are_refused(flavour):
    other = ranges_of(sample_graph(resnet_config("original", 8)))
    with pytest.raises(UserError, match=r"no range for .*another network"):
        quantize(sample_graph(resnet_config("preact", 8)), other, flavour)


@pytest.mark.parametrize("flavour", FILES)
def test_files_are_written_once_and_carry_their_flavour(run, flavour):
    assert not qdq_from_ranges(run, flavour)
    before = (run.path / FILES[flavour]).read_bytes()
    assert qdq_from_ranges(run, flavour, force=True)
    assert (run.path / FILES[flavour]).read_bytes() == before
    card, original = card_from_file(run.path / FILES[flavour]), card_from_file(run.path / MODEL)
    assert (card.precision, card.flavour) == ("int8", flavour)
    assert card.is_same_network(original)


def test_other_stream_makes_another_gpu_file_and_no_other_cpu_file(preact_run):
    before = (preact_run.path / MODEL_INT8_GPU).read_bytes()
    assert not qdq_from_ranges(preact_run, "cpu", stream="fp16")
    assert qdq_from_ranges(preact_run, "gpu", stream="fp16")
    assert (preact_run.path / MODEL_INT8_GPU).read_bytes() != before
    assert preact_run.record(MODEL_INT8_GPU).options["stream"] == "fp16"


def test_other_ranges_make_other_files(preact_run, digits):
    before = (preact_run.path / MODEL_INT8_CPU).read_bytes()
    ranges_from_graph(preact_run, digits, Method("minmax"))
    assert qdq_from_ranges(preact_run, "cpu")
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() != before


def test_scales_are_those_of_the_ranges_file(preact_run, digits):
    # With this method the two flavours clip at different points.
    ranges_from_graph(preact_run, digits, Method("mse"))
    for flavour in FILES:
        qdq_from_ranges(preact_run, flavour)
    ranges = ranges_from_file(preact_run.path / RANGES)
    for flavour, file in FILES.items():
        model = graph_from_file(preact_run.path / file)
        for node in nodes_of(model, "QuantizeLinear"):
            low, high = ranges[node.inputs[0].name.replace("images.narrow", "images")]
            width = (high - low) / 255 if flavour == "cpu" else max(-low, high) / 127
            assert float(constant(node.inputs[1])) == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("flavour", FILES)
def test_ranges_of_former_weights_are_refused(tmp_path, digits, flavour):
    run = RunDirectory(tmp_path)
    config = resnet_config("preact", 8)
    for seed in (0, 1):
        checkpoint_from_initialisation(run, config, digits, seed)
        graph_from_checkpoint(run)
        if seed == 0:
            ranges_from_graph(run, digits, Method())
    with pytest.raises(UserError, match=r"another model\.onnx"):
        qdq_from_ranges(run, flavour)
    assert FILES[flavour] not in run


# --- saturation ------------------------------------------------------------------------------


def _unsafe(saturation, network):
    model = quantized(*network, "cpu", saturation=saturation)
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
    assert qdq_from_ranges(preact_run, "cpu", saturation="proved")
    assert not qdq_from_ranges(preact_run, "cpu", saturation="proved")
    assert not qdq_from_ranges(preact_run, "gpu", saturation="proved")
    assert card_from_file(preact_run.verified(MODEL_INT8_CPU)).saturation == "proved"
