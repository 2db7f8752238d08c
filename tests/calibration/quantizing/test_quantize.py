"""These tests look at Q/DQ graphs as a whole: structure, arithmetic, and what runtimes make of them.

Logits are compared in the unoptimized graph, where every Q/DQ pair computes what ONNX defines, because the
integer kernels of CPUs without VNNI may saturate and so differ from machine to machine.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import PostconditionError
from quantized_samples import (
    CPU,
    GPU,
    IMAGES,
    NETWORKS,
    SCHEMES,
    calibrated_on,
    config_named,
    dtype_of,
    every_gpu_scheme,
    every_network,
    float_graph,
    named,
    nodes_of,
    optimized_operators,
    quantized,
    real_of,
    shared_graph,
    snr_db,
)
from sample_networks import (
    TWO_BLOCKS,
    graph_of,
    network_with_dead_parts,
    run_graph,
    sample_card,
)

from calibration.quantizing.activations import QuantizeActivations
from calibration.quantizing.biases import QuantizeBiases
from calibration.quantizing.qdq import FILES, qdq_from_ranges
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scales import Range
from calibration.quantizing.scheme import FP8, Scheme
from calibration.quantizing.weights import QuantizeWeights
from calibration.rewriting.bn_as_convolution import BatchnormAsConvolution
from calibration.rewriting.integer_relu import IntegerRelu
from errors import UserError
from export.audit import audit
from graphs.narrow import Narrow
from graphs.onnx_file import constant, graph_from_file, write_graph
from models.config import VARIANTS, resnet_config
from runtimes.tensorrt.package import BUILDERS


@every_network
def test_cpu_holds_no_batchnorm_and_no_float_weights_but_the_classifiers(network):
    cpu_graph = shared_graph(network, CPU)
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
    # The Transposes to ONNX Runtime's layout and back compute nothing and move codes.
    assert inside[:2] == ["QuantizeLinear", "Transpose"]
    assert inside[-2:] == ["Transpose", "DequantizeLinear"]
    written = Counter(node.op_type for node in model.graph)
    assert written["Add"] == 3 * config.blocks_per_stage
    # These operators work on codes, because what works on floats stands behind a DequantizeLinear.
    assert Counter(inside[2:-2]) == Counter(
        QLinearConv=written["Conv"], QLinearAdd=written["Add"], Clip=written["Clip"]
    )
    head = operators[len(inside) :]
    assert Counter(head) == {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}


@every_gpu_scheme
@every_network
def test_gpu_holds_no_uint8_and_no_int32(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    real = real_of(gpu_scheme)
    types = {dtype_of(value) for value in gpu_graph.graph.initializers.values()}
    assert types == {ir.DataType.INT8, real}


@every_gpu_scheme
@every_network
def test_gpu_convolution_flows_straight_into_its_add(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    for add in nodes_of(gpu_graph, "Add"):
        producers = sorted(value.producer().op_type for value in add.inputs)
        assert "Conv" in producers
        assert ("DequantizeLinear" in producers) == (gpu_scheme.stream == "int8")


@every_gpu_scheme
@every_network
def test_gpu_graph_has_an_opset_with_float16_scales(network, gpu_scheme):
    gpu_graph = shared_graph(network, gpu_scheme)
    assert gpu_graph.graph.opset_imports[""] >= 19


@every_gpu_scheme
@pytest.mark.parametrize("variant", VARIANTS)
def test_tensorrt_takes_every_convolution_as_int8(tmp_path, variant, gpu_scheme):
    pytest.importorskip("tensorrt_rtx")
    from runtimes.tensorrt.plan_from_onnx import plan_from_onnx

    config = resnet_config(variant, 8)
    model = quantized(config, gpu_scheme)
    convolutions = len(nodes_of(model, "Conv"))
    card = sample_card(config).with_precision("int8", "gpu")
    write_graph(model, card, tmp_path / "gpu.onnx")
    plan = plan_from_onnx(tmp_path / "gpu.onnx", card, BUILDERS["rtx"], ("sm89",))
    assert [*plan.types.values()] == ["int8"] * convolutions


def without_pairs(model):
    """Take all quantization and all Casts out of a graph again."""
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


@every_network
@pytest.mark.parametrize("scheme", [*GPU, FP8], ids=named)
def test_gpu_skip_path_is_the_one_that_was_audited(network, scheme):
    model = quantized(network, scheme)
    assert audit(without_pairs(model), network) == audit(float_graph(network), network)


@every_network
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


@every_network
def test_fp8_graph_is_valid_and_close_to_the_float_one(tmp_path, network):
    (expected,) = run_graph(float_graph(network), IMAGES)
    write_graph(quantized(network, FP8), sample_card(network), tmp_path / "fp8.onnx")
    (logits,) = run_graph(tmp_path / "fp8.onnx", IMAGES, optimized=False)
    assert 18 < snr_db(expected, logits) < 50


@every_network
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


@pytest.mark.parametrize("scheme", [CPU, Scheme("cpu", stream="fp32"), *GPU], ids=named)
def test_dead_tensors_and_channels_stay_finite_and_right(scheme):
    graph = graph_of(network_with_dead_parts())
    (expected,) = run_graph(graph, IMAGES)
    ranges = calibrated_on(graph)
    assert ranges["stage2.0.residual.relu2"].range == (0, 0, 0)
    Quantize(ranges, scheme)(graph)
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


# --- the result, and the passes inside --------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scheme", [CPU, GPU[0], GPU[1]], ids=named)
def test_result_names_the_convolutions_and_why_others_stay_float(variant, scheme):
    model = float_graph(resnet_config(variant, 14))
    block = ("stage2.1.add",)
    convolutions = [node.name for node in model.graph if node.op_type == "Conv"]
    result = Quantize(calibrated_on(model), replace(scheme, float_blocks=block))(model)
    inside = {f"stage2.1.residual.conv{n}" for n in (1, 2)}
    assert result.refused == dict.fromkeys(inside, "the block around this convolution is left in float")
    quantized_now = [node.name for node in nodes_of(model, "Conv") if node.name not in inside]
    assert sorted(result.changed) == sorted(quantized_now)
    assert set(convolutions) <= {*result.changed, *result.refused}


def test_fp8_tells_why_the_stem_stays_float():
    model = float_graph(NETWORKS[0])
    result = Quantize(calibrated_on(model), FP8)(model)
    assert result.refused == {"stem.conv": "TensorRT has no FP8 kernel for fewer than 16 channels in or out"}


@pytest.mark.parametrize(
    ("scheme", "inner"),
    [
        (CPU, BatchnormAsConvolution),
        (CPU, IntegerRelu),
        (CPU, QuantizeActivations),
        (CPU, QuantizeWeights),
        (CPU, QuantizeBiases),
        (GPU[0], Narrow),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_pass_inside_that_does_nothing_is_the_one_named(monkeypatch, scheme, inner):
    model = float_graph(resnet_config("preact", 14), absorbed=inner is IntegerRelu)
    ranges = calibrated_on(model)
    monkeypatch.setattr(inner, "rewrite", lambda self, graph: self.result())
    with pytest.raises(PostconditionError, match=rf"^pass '{inner.name}' broke a promise"):
        Quantize(ranges, scheme)(model)


def test_broken_promise_leaves_the_file_as_it_was(preact_run, monkeypatch):
    before = preact_run.verified(FILES["int8", "cpu"]).read_bytes()
    monkeypatch.setattr(QuantizeBiases, "rewrite", lambda self, graph: self.result())
    with pytest.raises(PostconditionError, match="pass 'quantize_biases' broke a promise"):
        qdq_from_ranges(preact_run, CPU, force=True)
    assert preact_run.verified(FILES["int8", "cpu"]).read_bytes() == before
