from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from fault_injection import bypass_dequantize, graph_in, publish, set_card

from artifacts.names import MODEL, MODEL_FP16, MODEL_INT8_CPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed, UserError
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.runtime import LayerTime


def _convolutions(path: Path) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    ("name", "precision"),
    [(MODEL, "int8"), (MODEL_FP16, "fp32"), (MODEL_INT8_CPU, "fp32"), (MODEL_INT8_GPU, "int8")],
)
def test_file_made_for_something_else_is_refused(
    trained_runs: dict[str, Path], name: str, precision: str
) -> None:
    with pytest.raises(UserError, match=f"{name} is .* openvino was asked for {precision}") as refusal:
        OpenVinoRuntime(trained_runs["preact"] / name, precision).__enter__()
    assert not isinstance(refusal.value, CheckFailed)


def test_float32_really_is_float32(trained_runs: dict[str, Path]) -> None:
    """On a CPU with bfloat16 OpenVINO would compute in bfloat16 by default."""
    for path in trained_runs.values():
        with OpenVinoRuntime(path / MODEL, "fp32") as runtime:
            assert runtime.describe()["convolutions"] == {"f32": _convolutions(path / MODEL)}


def test_all_convolutions_of_the_cpu_graph_are_integer(trained_runs: dict[str, Path]) -> None:
    for path in trained_runs.values():
        with OpenVinoRuntime(path / MODEL_INT8_CPU, "int8") as runtime:
            counts = runtime.describe()["convolutions"]
        assert set(counts) <= {"i8", "u8"}
        assert sum(counts.values()) == _convolutions(path / MODEL_INT8_CPU)


@pytest.mark.parametrize("conv", ["stem.conv", "stage2.0.residual.conv1"])
def test_convolution_that_stays_float_is_a_failed_check(run: RunDirectory, conv: str) -> None:
    graph = graph_in(run, MODEL_INT8_CPU)
    bypass_dequantize(graph, conv)
    publish(run, MODEL_INT8_CPU, graph)
    with pytest.raises(CheckFailed, match=r"float convolutions \(.*'f32'"):
        OpenVinoRuntime(run.verified(MODEL_INT8_CPU), "int8").__enter__()


def test_float_graph_passed_off_as_int8_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL)
    set_card(graph, precision="int8", flavour="cpu")
    publish(preact_run, MODEL_INT8_CPU, graph)
    with pytest.raises(CheckFailed, match="float convolutions"):
        OpenVinoRuntime(preact_run.verified(MODEL_INT8_CPU), "int8").__enter__()


def test_each_batch_size_is_compiled_once(trained_runs: dict[str, Path], digits: Dataset) -> None:
    images = digits.normalised(digits.test.images[:3])
    with OpenVinoRuntime(trained_runs["preact"] / MODEL, "fp32") as runtime:
        for batch in (3, 1, 3):
            runtime.infer(images[:batch])
        first = runtime._request(3)
        runtime.infer(images)
        assert runtime._request(3) is first
        assert set(runtime._requests) == {1, 3}


class FakeRequest:
    """A request whose first call takes 100 ms in the one layer that it tells of, and each later one 2 ms."""

    def __init__(self) -> None:
        self.calls = 0

    def create_infer_request(self) -> "FakeRequest":
        return self

    def infer(self, inputs: object) -> None:
        self.calls += 1

    def get_profiling_info(self) -> list[SimpleNamespace]:
        took = timedelta(milliseconds=100 if self.calls == 1 else 2)
        return [SimpleNamespace(node_name="logits", exec_type="gemm", real_time=took)]


def test_profile_leaves_out_the_first_call_which_packs_weights(
    trained_runs: dict[str, Path], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits.normalised(digits.test.images[:2])
    with OpenVinoRuntime(trained_runs["preact"] / MODEL, "fp32") as runtime:
        monkeypatch.setattr(runtime, "_compiled", lambda batch, **options: FakeRequest())
        assert runtime.layer_times(images, calls=4) == [LayerTime("logits (gemm)", 2.0)]
