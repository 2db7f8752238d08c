"""ONNX Runtime's TensorRT and RTX providers as engines, on a double of ONNX Runtime."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from ort_double import RTX, TENSORRT, OrtDouble

from artifacts.names import MODEL, MODEL_FP16, MODEL_INT8_GPU, MODEL_INT8_RTX
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from graphs.card import Batch
from machine.gpu import gpus
from runtimes.engines import ENGINES
from runtimes.ort_runtime import OrtRuntime
from runtimes.ort_tensorrt_runtime import OrtRtxRuntime, OrtTrtRuntime, environment
from runtimes.runtime import Runtime
from runtimes.subjects import open_subject, subject_in

BOTH = pytest.mark.parametrize("adapter", [OrtTrtRuntime, OrtRtxRuntime])


@pytest.fixture
def folder(trained_runs: dict[str, Path]) -> Path:
    return trained_runs["preact"]


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> OrtDouble:
    return OrtDouble().install(monkeypatch)


@pytest.fixture
def images(digits: Dataset) -> Batch:
    return digits.normalised(digits.test.images[:7])


@BOTH
def test_graph_reaches_the_provider_as_it_was_written(
    folder: Path, ort: OrtDouble, adapter: type[Runtime]
) -> None:
    with adapter(folder / MODEL, "fp32", "cuda"):
        (session,) = ort.sessions
    level = session.options.graph_optimization_level
    assert level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def test_tensorrt_is_given_no_precision_and_keeps_no_engine(folder: Path, ort: OrtDouble) -> None:
    """A precision that is switched on would make the network weakly typed."""
    with OrtTrtRuntime(folder / MODEL_INT8_GPU, "int8", "cuda") as runtime:
        (session,) = ort.sessions
        assert runtime.describe()["provider_options"] == session.settings
    assert session.provider == TENSORRT
    assert session.settings == {
        "device_id": "0",
        "trt_fp16_enable": "False",
        "trt_bf16_enable": "False",
        "trt_int8_enable": "False",
        "trt_profile_min_shapes": "images:1x3x32x32",
        "trt_profile_opt_shapes": "images:32x3x32x32",
        "trt_profile_max_shapes": "images:128x3x32x32",
        "trt_engine_cache_enable": "False",
        "trt_cuda_graph_enable": "False",
    }


def test_rtx_is_given_its_own_graph_and_a_profile(folder: Path, ort: OrtDouble) -> None:
    with OrtRtxRuntime(folder / MODEL_INT8_RTX, "int8", "cuda"):
        (session,) = ort.sessions
    assert session.provider == RTX
    assert session.settings == {
        "enable_cuda_graph": "0",
        "nv_profile_min_shapes": "images:1x3x32x32",
        "nv_profile_opt_shapes": "images:32x3x32x32",
        "nv_profile_max_shapes": "images:128x3x32x32",
    }
    with pytest.raises(UserError, match="flavour gpu, and ort-rtx was asked for"):
        OrtRtxRuntime(folder / MODEL_INT8_GPU, "int8", "cuda").__enter__()
    with pytest.raises(UserError, match="flavour rtx, and ort-trt was asked for"):
        OrtTrtRuntime(folder / MODEL_INT8_RTX, "int8", "cuda").__enter__()


@BOTH
@pytest.mark.parametrize(("name", "precision", "tf32"), [(MODEL, "fp32", "0"), (MODEL_FP16, "fp16", "1")])
def test_float32_is_computed_without_tf32(
    *,
    folder: Path,
    ort: OrtDouble,
    monkeypatch: pytest.MonkeyPatch,
    adapter: type[Runtime],
    name: str,
    precision: str,
    tf32: str,
) -> None:
    """The variable stays while the runtime is open, because TensorRT for RTX compiles in later calls too."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    runtime = adapter(folder / name, precision, "cuda")
    with runtime:
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == tf32
    assert ort.tf32 == [tf32]
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"
    # Otherwise the variable could be restored because nobody holds the runtime any more.
    del runtime


def test_environment_is_as_before_after_a_refusal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    OrtDouble(missing="libnvinfer.so.10: cannot open").install(monkeypatch)
    with pytest.raises(UserError, match=r"does not load \(libnvinfer.so.10: cannot open\)"):
        OrtTrtRuntime(folder / MODEL, "fp32", "cuda").__enter__()
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    with environment(NVIDIA_TF32_OVERRIDE="0"):
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


@BOTH
def test_batch_larger_than_the_profile_is_cut_in_order(
    folder: Path, ort: OrtDouble, images: Batch, adapter: type[Runtime]
) -> None:
    many = np.resize(images, (300, *images.shape[1:]))
    with OrtRuntime(folder / MODEL, "fp32") as cpu, adapter(folder / MODEL, "fp32", "cuda") as runtime:
        np.testing.assert_allclose(runtime.infer(many), cpu.infer(many), atol=1e-4)


@BOTH
def test_description_says_that_the_provider_has_every_node(
    folder: Path, ort: OrtDouble, adapter: type[OrtTrtRuntime]
) -> None:
    with adapter(folder / MODEL, "fp32", "cuda") as runtime:
        described = runtime.describe()
    plugin = ", onnxruntime-ep-nv-tensorrt-rtx 0.5" if adapter is OrtRtxRuntime else ""
    assert described["version"] == f"{onnxruntime.__version__}{plugin}"
    assert described["device"] == adapter.provider.name
    assert described["nodes"] == {adapter.provider.name: ort.sessions[0].nodes}
    assert described["tf32"] == "off through NVIDIA_TF32_OVERRIDE"


@BOTH
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_what_the_documentation_does_not_name_is_refused(
    folder: Path, adapter: type[Runtime], precision: str
) -> None:
    with pytest.raises(UserError, match=f"{adapter.name} cannot run {precision} on cuda"):
        adapter(folder / MODEL, precision, "cuda")


@pytest.mark.skipif(bool(gpus()), reason="an NVIDIA GPU is here, where the providers may load")
@pytest.mark.parametrize(
    ("engine", "precision"),
    [(engine, precision) for engine in ("ort-trt", "ort-rtx") for precision in ENGINES[engine].graphs],
)
def test_without_a_gpu_there_is_one_line_and_nothing_runs_on_the_cpu(
    preact_run: RunDirectory, capfd: pytest.CaptureFixture[str], engine: str, precision: str
) -> None:
    with pytest.raises(UserError, match="ExecutionProvider") as refused:
        open_subject(preact_run, subject_in(preact_run, engine, precision)).__enter__()
    assert "\n" not in refused.value.problem
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("engine", ["ort-trt", "ort-rtx"])
def test_engine_agrees_with_float32_or_is_refused(
    preact_run: RunDirectory, images: Batch, engine: str
) -> None:
    with OrtRuntime(preact_run.path / MODEL, "fp32") as cpu:
        expected = cpu.infer(images)
    for precision in ENGINES[engine].graphs:
        try:
            with open_subject(preact_run, subject_in(preact_run, engine, precision)) as runtime:
                assert np.abs(runtime.infer(images) - expected).max() <= 0.2 * np.abs(expected).max()
        except UserError as refused:
            assert "ExecutionProvider" in refused.problem
