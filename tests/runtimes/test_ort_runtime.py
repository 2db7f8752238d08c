from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from fault_injection import bypass_dequantize, graph_in, publish, set_card
from onnx.reference import ReferenceEvaluator
from ort_double import OrtDouble

from artifacts.names import MODEL, MODEL_BF16, MODEL_FP8_GPU, MODEL_FP16, MODEL_INT8_CPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed, UserError
from machine.gpu import gpus
from runtimes.engines import GPU_GRAPHS
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime, quantized_additions


@pytest.fixture
def folder(trained_runs: dict[str, Path]) -> Path:
    return trained_runs["preact"]


@pytest.mark.parametrize(("name", "precision"), [(MODEL, "fp32"), (MODEL_FP16, "fp16")])
def test_cuda_computes_every_node_without_tf32(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    ort = OrtDouble().install(monkeypatch)
    with OrtRuntime(folder / name, precision, "cuda") as runtime:
        described = runtime.describe()
    (session,) = ort.sessions
    assert session.settings == described["provider_options"] == {"use_tf32": "0"}
    assert described["device"] == "CUDAExecutionProvider"
    assert described["nodes"] == {"CUDAExecutionProvider": len(onnx.load(folder / name).graph.node)}
    assert described["convolutions"]["Conv"] == 9


@pytest.mark.parametrize("how", [{"missing": "libcublasLt.so.13: no such file"}, {"leaves": 1}])
def test_cuda_that_computes_less_than_every_node_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    OrtDouble(**how).install(monkeypatch)
    with pytest.raises(UserError, match="CUDAExecutionProvider does not") as refusal:
        OrtRuntime(folder / MODEL, "fp32", "cuda").__enter__()
    assert "--device cpu" in refusal.value.fix


@pytest.mark.skipif(bool(gpus()), reason="an NVIDIA GPU is here, where CUDA may load")
@pytest.mark.parametrize(("name", "precision"), [(MODEL, "fp32"), (MODEL_FP16, "fp16")])
def test_cuda_without_a_gpu_is_an_error_and_no_silent_cpu_session(
    folder: Path, name: str, precision: str
) -> None:
    with (
        pytest.raises(UserError, match="CUDAExecutionProvider"),
        OrtRuntime(folder / name, precision, "cuda"),
    ):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="no NVIDIA GPU")
@pytest.mark.parametrize(("name", "precision"), [(MODEL, "fp32"), (MODEL_FP16, "fp16")])
def test_cuda_session_runs_on_cuda_or_is_refused(
    folder: Path, digits: Dataset, name: str, precision: str
) -> None:
    images = digits.normalised(digits.test.images[:7])
    with ReferenceRuntime(folder / name, precision) as reference:
        expected = reference.infer(images)
    try:
        with OrtRuntime(folder / name, precision, "cuda") as runtime:
            assert runtime.describe()["device"] == "CUDAExecutionProvider"
            assert np.abs(runtime.infer(images) - expected).max() <= 2e-2 * np.abs(expected).max()
    except UserError as refusal:
        assert "CUDAExecutionProvider" in refusal.problem


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        (MODEL, "int8"),
        (MODEL_FP16, "int8"),
        (MODEL_FP16, "fp32"),
        (MODEL_INT8_CPU, "fp32"),
        (MODEL_INT8_GPU, "int8"),
        (MODEL_BF16, "fp32"),
        (MODEL_FP8_GPU, "int8"),
    ],
)
def test_file_made_for_something_else_is_refused(folder: Path, name: str, precision: str) -> None:
    with pytest.raises(UserError, match=f"{name} is .* ort was asked for {precision} of flavour") as refusal:
        OrtRuntime(folder / name, precision).__enter__()
    assert not isinstance(refusal.value, CheckFailed)


def test_all_convolutions_of_the_cpu_graph_are_integer(trained_runs: dict[str, Path]) -> None:
    for path in trained_runs.values():
        count = sum(node.op_type == "Conv" for node in onnx.load(path / MODEL_INT8_CPU).graph.node)
        with OrtRuntime(path / MODEL_INT8_CPU, "int8") as runtime:
            assert runtime.describe()["convolutions"] == {"QLinearConv": count}


def test_batchnorm_run_as_a_convolution_is_not_counted_as_one(folder: Path) -> None:
    """In the blocked layout ONNX Runtime runs every BN on the stream of a pre-activation network so."""
    operators = [node.op_type for node in onnx.load(folder / MODEL).graph.node]
    assert "BatchNormalization" in operators
    with OrtRuntime(folder / MODEL, "fp32") as runtime:
        assert runtime.describe()["convolutions"] == {"Conv": operators.count("Conv")}


@pytest.mark.parametrize("conv", ["stem.conv", "stage2.0.residual.conv1"])
def test_convolution_that_stays_float_is_a_failed_check(run: RunDirectory, conv: str) -> None:
    graph = graph_in(run, MODEL_INT8_CPU)
    bypass_dequantize(graph, conv)
    publish(run, MODEL_INT8_CPU, graph)
    with pytest.raises(CheckFailed, match=r"float convolutions \(.*'Conv'"):
        OrtRuntime(run.verified(MODEL_INT8_CPU), "int8").__enter__()


def test_float_graph_passed_off_as_int8_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL)
    set_card(graph, precision="int8", flavour="cpu")
    publish(preact_run, MODEL_INT8_CPU, graph)
    with pytest.raises(CheckFailed, match="float convolutions"):
        OrtRuntime(preact_run.verified(MODEL_INT8_CPU), "int8").__enter__()


def test_nothing_is_left_beside_the_artifact(preact_run: RunDirectory) -> None:
    """The optimized graph, in which the convolutions are counted, is deleted."""
    before = sorted(preact_run.path.iterdir())
    with OrtRuntime(preact_run.verified(MODEL), "fp32"):
        assert sorted(preact_run.path.iterdir()) == before


@pytest.mark.parametrize("name", [MODEL, MODEL_INT8_CPU])
def test_reference_is_the_definition_of_onnx(
    trained_runs: dict[str, Path], digits: Dataset, name: str
) -> None:
    """The oracle is the evaluator of the ONNX package, which is an independent implementation in NumPy."""
    images = digits.normalised(digits.test.images[:1])
    precision = "fp32" if name == MODEL else "int8"
    for path in trained_runs.values():
        (expected,) = ReferenceEvaluator(onnx.load(path / name)).run(None, {"images": images})
        with ReferenceRuntime(path / name, precision) as runtime:
            error = np.abs(runtime.infer(images) - expected).max()
        # In INT8 the last bit of an accumulation may move a code by one.
        assert error <= (1e-5 if precision == "fp32" else 5e-2) * np.abs(expected).max()


def test_reference_evaluates_graphs_of_other_hardware_unfused(folder: Path) -> None:
    for precision, name in [*GPU_GRAPHS.items(), ("int8", MODEL_INT8_CPU)]:
        count = sum(node.op_type == "Conv" for node in onnx.load(folder / name).graph.node)
        with ReferenceRuntime(folder / name, precision) as runtime:
            assert runtime.describe()["convolutions"] == {"Conv": count}


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        (MODEL, "fp16"),
        (MODEL_FP16, "int8"),
        (MODEL_INT8_GPU, "fp32"),
        (MODEL_FP16, "bf16"),
        (MODEL_INT8_GPU, "fp8"),
    ],
)
def test_reference_refuses_another_precision(folder: Path, name: str, precision: str) -> None:
    with pytest.raises(UserError, match=f"{name} is .* reference was asked for {precision}"):
        ReferenceRuntime(folder / name, precision).__enter__()


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x09"])
def test_file_that_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / MODEL
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a valid ONNX file|takes \[\] and gives"):
        OrtRuntime(path, "fp32").__enter__()


QUANTIZED_SUM = """
<ir_version: 9, opset_import: ["": 19]>
g (uint8[1] a, uint8[1] b) => (uint8[1] y) <float s = {1}, uint8 z = {0}> {
    x = DequantizeLinear(a, s, z)
    w = DequantizeLinear(b, s, z)
    t = Add(x, w)
    r = Relu(t)
    y = QuantizeLinear(r, s, z)
}"""


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ("", "", 1),
        ("r = Relu(t)\n    y = QuantizeLinear(r,", "y = QuantizeLinear(t,", 1),
        ("Relu(t)", "Sigmoid(t)", 0),
        ("Add(x, w)", "Add(x, s)", 0),
        ("r = Relu(t)", "r = Add(t, x)", 0),
    ],
    ids=["behind a Relu", "alone", "behind another operator", "float operand", "read in float"],
)
def test_sums_between_quantizers_are_counted(old: str, new: str, count: int) -> None:
    assert quantized_additions(onnx.parser.parse_model(QUANTIZED_SUM.replace(old, new)).graph) == count


def test_sum_that_stays_float_is_a_failed_check(preact_run: RunDirectory) -> None:
    """The last addition, which no convolution reads, gets int8 codes, while its operands have uint8 codes."""
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    assert quantized_additions(graph.graph) == 3
    add = [node for node in graph.graph.node if node.op_type == "Add"][-1]
    reader = {node.input[0]: node for node in graph.graph.node}
    quantize = reader[add.output[0]]
    while quantize.op_type != "QuantizeLinear":
        quantize = reader[quantize.output[0]]
    (zero_point,) = (tensor for tensor in graph.graph.initializer if tensor.name == quantize.input[2])
    zero_point.CopyFrom(onnx.numpy_helper.from_array(np.int8(0), zero_point.name))
    del graph.graph.value_info[:]
    publish(preact_run, MODEL_INT8_CPU, graph)
    with pytest.raises(CheckFailed, match=r"float additions \(.*'QLinearAdd': 2"):
        OrtRuntime(preact_run.verified(MODEL_INT8_CPU), "int8").__enter__()
