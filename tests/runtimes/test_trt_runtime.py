from pathlib import Path

import numpy as np
import pytest
import torch
from fault_injection import publish_engine
from pretended_gpus import set_gpus
from tensorrt_double import (
    CHANNELS,
    LAYERS,
    SIZE,
    CudaDouble,
    TensorRtDouble,
    expected_logits,
    expected_ms,
)

import runtimes.tensorrt.package
from artifacts.names import CHECKPOINT
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from machine.gpu import Gpu, gpus
from runtimes.engines import GPU_GRAPHS
from runtimes.runtime import LayerTime
from runtimes.subjects import open_subject, subject_in
from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
from runtimes.tensorrt.package import BUILDERS, Builder, installed_builder
from runtimes.torch_runtime import TorchRuntime
from runtimes.trt_runtime import TrtRuntime

L4 = Gpu("NVIDIA L4", 89)
NAME = "engines/fp16.rtx.engine"


@pytest.fixture
def plan(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan file whose sidecar says that the TensorRT for RTX installed here built the plan."""
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt-rtx": "1.7"}.get)
    publish_engine(preact_run, NAME)
    return preact_run.verified(NAME)


def _refusal(plan: Path, precision: str = "fp16") -> UserError:
    with pytest.raises(UserError) as refusal:
        TrtRuntime(plan, precision, "cuda").__enter__()
    return refusal.value


def test_no_driver_names_the_engine_and_what_works_here(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch)
    refusal = _refusal(plan)
    assert str(plan) in refusal.problem
    assert "no NVIDIA driver or GPU" in refusal.problem
    assert "--engine ort" in refusal.fix
    assert "--engine openvino" in refusal.fix


@pytest.mark.parametrize(("installed", "named"), [({"tensorrt-rtx": "1.6"}, "1.6"), ({}, "none")])
def test_plan_of_another_version_is_refused(
    plan: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: dict[str, str],
    named: str,
) -> None:
    set_gpus(monkeypatch, L4)
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", installed.get)
    refusal = _refusal(plan)
    assert f"built by TensorRT for RTX 1.7, and {named} is installed" in refusal.problem
    assert refusal.fix == "build the engine again here"


def test_plan_of_another_precision_is_refused(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, L4)
    expected = f"{plan.name} is fp16 of flavour any, and trt was asked for int8"
    assert expected in _refusal(plan, "int8").problem


def test_pytorch_without_cuda_is_named(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, L4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "PyTorch" in _refusal(plan).problem


@pytest.fixture
def on_the_double(monkeypatch: pytest.MonkeyPatch) -> TensorRtDouble:
    """TensorRT for RTX and an L4 that are not there."""
    trt = TensorRtDouble()
    set_gpus(monkeypatch, L4)
    monkeypatch.setattr(TrtRuntime, "cuda", CudaDouble)
    monkeypatch.setattr(Builder, "load", lambda builder: trt)
    return trt


def test_plan_that_does_not_load_says_what_tensorrt_says(plan: Path, on_the_double: TensorRtDouble) -> None:
    on_the_double.refuse = ("deserialize_cuda_engine",)
    problem = _refusal(plan).problem
    assert f"cannot load {plan.name} on NVIDIA double 0 (GPU 0): magic tag does not match" in problem


def test_engine_that_is_not_valid_here_says_why(plan: Path, on_the_double: TensorRtDouble) -> None:
    on_the_double.diagnostics = 4
    refusal = _refusal(plan)
    assert "the NVIDIA driver is too old" in refusal.problem
    assert "--target" not in refusal.fix


def test_the_engine_runs_on_the_gpu_it_fits(
    plan: Path, on_the_double: TensorRtDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpus(monkeypatch, Gpu("NVIDIA H100", 90, 0), Gpu("NVIDIA L4", 89, 1))
    with TrtRuntime(plan, "fp16", "cuda") as runtime:
        assert runtime.describe()["gpu_index"] == 1
        assert CudaDouble.instances[-1].index == 1


def test_no_gpu_that_the_engine_runs_on(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, Gpu("NVIDIA H100", 90))
    refusal = _refusal(plan)
    assert "TensorRT for RTX has no kernels for sm90" in refusal.problem
    assert "sm90" not in refusal.fix


def test_missing_sidecar_is_refused(plan: Path) -> None:
    plan.with_suffix(".json").unlink()
    assert "is not the sidecar of an engine" in _refusal(plan).problem


@pytest.mark.parametrize("changed", [NAME, "engines/fp16.rtx.json"])
def test_plan_or_sidecar_that_was_changed_is_not_opened(
    plan: Path, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    set_gpus(monkeypatch)
    subject = subject_in(preact_run, "trt", "fp16")
    (preact_run.path / changed).write_text("{}")
    with pytest.raises(UserError, match=f"{changed} is not the file that `build` wrote"):
        open_subject(preact_run, subject)


@pytest.mark.parametrize("count", [1, 128, 129, 300])
def test_batch_larger_than_every_profile_is_cut_in_order(
    plan: Path, on_the_double: TensorRtDouble, count: int
) -> None:
    images = _images(count)
    with TrtRuntime(plan, "fp16", "cuda") as runtime:
        logits = runtime._infer(images)
    np.testing.assert_allclose(logits, expected_logits(images), rtol=1e-4, atol=1e-3)
    assert on_the_double.calls.count("execute_async_v3") == -(-count // 128)


@pytest.mark.parametrize("cuda_graphs", [True, False, None])
@pytest.mark.parametrize("rtx", [True, False])
def test_graphs_are_captured_unless_they_are_turned_off(
    plan: Path, on_the_double: TensorRtDouble, rtx: bool, cuda_graphs: bool | None
) -> None:
    on_the_double.rtx = rtx
    with TrtRuntime(plan, "fp16", "cuda", cuda_graphs=cuda_graphs) as runtime:
        said = runtime.describe()["cuda_graph"]
        for _ in range(3):
            runtime._infer(_images(2))
    captured = "whole graph, captured by TensorRT" if rtx else "captured for each batch size"
    assert said == ("none" if cuda_graphs is False else captured)
    if not rtx:
        assert on_the_double.calls.count("execute_async_v3") == (3 if cuda_graphs is False else 2)


@pytest.mark.parametrize("count", [1, 128, 129, 300])
@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_device_time_of_a_batch_that_is_cut_is_the_sum_of_its_parts(
    plan: Path, on_the_double: TensorRtDouble, count: int, cuda_graphs: bool
) -> None:
    with TrtRuntime(plan, "fp16", "cuda", cuda_graphs=cuda_graphs) as runtime:
        assert runtime.device_ms(_images(count)) == pytest.approx(expected_ms(count))


@pytest.mark.parametrize("count", [3, 300])
def test_profile_names_each_layer_once(plan: Path, on_the_double: TensorRtDouble, count: int) -> None:
    with TrtRuntime(plan, "fp16", "cuda") as runtime:
        times = runtime.layer_times(_images(count), calls=2)
    assert times == [LayerTime(name, pytest.approx(count * ms)) for name, ms in LAYERS.items()]


def test_what_is_measured_is_checked_like_what_is_run(plan: Path, on_the_double: TensorRtDouble) -> None:
    with TrtRuntime(plan, "fp16", "cuda") as runtime:
        with pytest.raises(ValueError, match="trt takes float32"):
            runtime.device_ms(np.zeros((2, 3, 16, 16), np.float32))
        with pytest.raises(ValueError, match="no images"):
            runtime.layer_times(_images(0), calls=1)
        with pytest.raises(ValueError, match="at least one call, not 0"):
            runtime.layer_times(_images(1), calls=0)


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, CHANNELS, SIZE, SIZE)).astype(np.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("precision", GPU_GRAPHS)
def test_engine_built_here_agrees_with_pytorch(run: RunDirectory, digits: Dataset, precision: str) -> None:
    _skip_where_no_engine_can_run()
    engine_from_onnx(run, precision)
    images = digits.normalised(digits.test.images[:7])
    with TorchRuntime(run.verified(CHECKPOINT), "fp32") as original:
        expected = original.infer(images)
    with open_subject(run, subject_in(run, "trt", precision)) as runtime:
        logits = runtime.infer(images)
        single = np.concatenate([runtime.infer(image[None]) for image in images])
    largest = np.abs(expected).max()
    close = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 0.1, "int8": 0.2, "fp8": 0.3}
    closer = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 0.1, "int8": 5e-2, "fp8": 0.1}
    assert np.abs(logits - expected).max() <= close[precision] * largest
    assert np.abs(logits - single).max() <= closer[precision] * largest


def _skip_where_no_engine_can_run() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA build of torch, which holds the GPU buffers")
    if all(builder.version is None for builder in BUILDERS.values()):
        pytest.skip("no TensorRT is installed")
    target = f"SM{gpus()[0].compute_capability}"
    builder = installed_builder()
    if builder.ahead_of_time and target not in builder.load().ComputeCapability.__members__:
        pytest.skip(f"{builder.title} has no target {target.lower()}")
