from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fault_injection import publish_engine
from pretended_gpus import set_gpus

import runtimes.tensorrt.package
from artifacts.names import CHECKPOINT
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from graphs.card import Batch
from machine.gpu import Gpu, gpus
from runtimes.engines import GPU_GRAPHS
from runtimes.subjects import open_subject, subject_in
from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
from runtimes.tensorrt.package import BUILDERS, Builder, installed_builder
from runtimes.tensorrt.plan_options import DEFAULT_PROFILES, Profile
from runtimes.torch_runtime import TorchRuntime
from runtimes.trt_runtime import TrtRuntime

L4 = Gpu("NVIDIA L4", 89)
NAME = "engines/fp16.rtx.engine"


@pytest.fixture
def plan(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan file that claims to be built by the TensorRT for RTX installed here."""
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
    assert refusal.fix == "build it again here"


def test_plan_of_another_precision_is_refused(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, L4)
    assert "is an fp16 engine, and trt was asked for int8" in _refusal(plan, "int8").problem


def test_pytorch_without_cuda_is_named(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, L4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "PyTorch" in _refusal(plan).problem


def test_plan_that_does_not_load_names_the_gpu_and_its_target(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = SimpleNamespace(deserialize_cuda_engine=lambda plan: None)
    module = SimpleNamespace(ILogger=SimpleNamespace, Runtime=lambda logger: refusing)
    set_gpus(monkeypatch, L4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(Builder, "load", lambda builder: module)
    refusal = _refusal(plan)
    assert f"cannot load {plan.name} on NVIDIA L4 (sm89)" in refusal.problem
    assert "--target sm89" in refusal.fix


def test_missing_sidecar_is_refused(plan: Path) -> None:
    plan.with_suffix(".json").unlink()
    assert "does not describe an engine" in _refusal(plan).problem


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
def test_batch_larger_than_the_profile_is_cut_in_order(count: int) -> None:
    sizes = []

    class Doubling(TrtRuntime):
        """In place of the GPU."""

        def _infer(self, images: Batch) -> Batch:
            if len(images) > self._largest:
                return super()._infer(images)
            sizes.append(len(images))
            return 2 * images

    runtime = Doubling(Path("nowhere"), "fp32", "cuda")
    runtime._largest = DEFAULT_PROFILES[-1].largest
    images = np.arange(count, dtype=np.float32)
    np.testing.assert_array_equal(runtime._infer(images), 2 * images)
    assert len(sizes) == -(-count // 128)
    assert max(sizes) <= 128


class SwitchingContext:
    """In place of an execution context; remembers the profiles that were chosen."""

    def __init__(self, takes: bool = True) -> None:
        self.takes = takes
        self.chosen: list[int] = []

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.chosen.append(profile)
        return self.takes


def _with_profiles(*profiles: Profile, takes: bool = True) -> TrtRuntime:
    runtime = TrtRuntime(Path("x.engine"), "fp32", "cuda")
    runtime._profiles, runtime._profile, runtime._version = profiles, 0, "TensorRT"
    runtime._context, runtime._stream = SwitchingContext(takes), SimpleNamespace(cuda_stream=0)
    return runtime


def test_every_batch_is_run_with_the_profile_that_is_tuned_for_it() -> None:
    runtime = _with_profiles(*DEFAULT_PROFILES)
    for batch in (1, 32, 7, 1, 128):
        runtime._choose_profile(batch)
    assert runtime._context.chosen == [1, 0, 1]


def test_a_batch_that_no_profile_serves_is_refused() -> None:
    with pytest.raises(UserError, match="serves batches of 8 to 16 and 32 to 64, not of 20"):
        _with_profiles(Profile(8, 8, 16), Profile(32, 32, 64))._choose_profile(20)


def test_a_profile_that_is_not_taken_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not take profile 1"):
        _with_profiles(*DEFAULT_PROFILES, takes=False)._choose_profile(2)


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
