"""What `doctor` says of ONNX Runtime's providers for GPUs, on a double of ONNX Runtime."""

import onnxruntime
import pytest
from ort_double import OrtDouble, SessionDouble

from workflow.doctor import Capability, capabilities

GPU_TASKS = {
    "run ort on CUDA": "CUDAExecutionProvider",
    "run ort-trt": "TensorrtExecutionProvider",
    "run ort-rtx": "NvTensorRTRTXExecutionProvider",
}


def _found(task: str) -> Capability:
    (capability,) = (c for c in capabilities()[1] if c.task == task)
    return capability


@pytest.mark.parametrize(("task", "provider"), GPU_TASKS.items())
def test_a_provider_that_is_listed_and_does_not_load_is_not_able(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], task: str, provider: str
) -> None:
    OrtDouble(missing="libcublasLt.so.13: no such file").install(monkeypatch)
    capability = _found(task)
    assert not capability.able
    assert capability.provided_by == f"{provider} does not load (libcublasLt.so.13: no such file)"
    assert "NVIDIA" in capability.fix
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("task", "provider"), GPU_TASKS.items())
def test_a_provider_that_runs_is_able(monkeypatch: pytest.MonkeyPatch, task: str, provider: str) -> None:
    OrtDouble().install(monkeypatch)
    plugin = ", onnxruntime-ep-nv-tensorrt-rtx 0.5" if task == "run ort-rtx" else ""
    assert _found(task).provided_by == f"onnxruntime {onnxruntime.__version__}{plugin}, {provider}"


@pytest.mark.parametrize(("task", "provider"), GPU_TASKS.items())
def test_a_provider_whose_call_fails_is_not_able(
    monkeypatch: pytest.MonkeyPatch, task: str, provider: str
) -> None:
    OrtDouble().install(monkeypatch)
    monkeypatch.setattr(SessionDouble, "fails_from_the_start", True)
    assert f"{provider} does not run (" in _found(task).provided_by


def test_onnx_runtime_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    capability = _found("run ort on CUDA")
    assert not capability.able
    assert "no CUDAExecutionProvider" in capability.provided_by
    assert capability.fix == "pip install onnxruntime-gpu (Linux and Windows, x86-64)"
