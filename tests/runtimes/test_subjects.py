from pathlib import Path

import pytest
from fault_injection import MinuteClock, publish_engine
from pretended_gpus import set_gpus

import artifacts.run_directory
from artifacts.names import (
    CHECKPOINT,
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_INT8_RTX,
)
from artifacts.run_directory import RunDirectory
from errors import UserError
from machine.gpu import Gpu
from runtimes.engines import ENGINES
from runtimes.subjects import Subject, gpu_index_of, open_subject, precisions_of, subject_in
from vocabulary import Precision

T4, A10 = Gpu("NVIDIA T4", 75), Gpu("NVIDIA A10", 86)
L4, B200 = Gpu("NVIDIA L4", 89), Gpu("NVIDIA B200", 100)
RTX5090 = Gpu("NVIDIA RTX 5090", 120)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts.run_directory, "datetime", MinuteClock())


@pytest.mark.parametrize(
    ("engine", "precision", "device", "artifact"),
    [
        ("torch", "fp32", "cpu", CHECKPOINT),
        ("torch", "fp32", "cuda", CHECKPOINT),
        ("torch", "bf16", "cpu", CHECKPOINT),
        ("torch", "fp16", "cuda", CHECKPOINT),
        ("torch-compile", "fp32", "cpu", CHECKPOINT),
        ("ort", "fp32", "cpu", MODEL),
        ("ort", "int8", "cpu", MODEL_INT8_CPU),
        ("ort", "fp32", "cuda", MODEL),
        ("ort", "fp16", "cuda", MODEL_FP16),
        ("openvino", "fp32", "cpu", MODEL),
        ("openvino", "int8", "cpu", MODEL_INT8_OPENVINO),
        ("reference", "fp32", "cpu", MODEL),
        ("reference", "fp16", "cpu", MODEL_FP16),
        ("reference", "bf16", "cpu", MODEL_BF16),
        ("reference", "int8", "cpu", MODEL_INT8_GPU),
        ("reference", "fp8", "cpu", MODEL_FP8_GPU),
        ("reference-rtx", "int8", "cpu", MODEL_INT8_RTX),
        ("reference-rtx", "fp8", "cpu", MODEL_FP8_RTX),
    ],
)
def test_each_engine_opens_the_file_made_for_it(
    trained_runs: dict[str, Path], engine: str, precision: str, device: str, artifact: str
) -> None:
    run = RunDirectory(trained_runs["preact"])
    assert subject_in(run, engine, precision, device) == Subject(engine, precision, artifact, device)


@pytest.mark.parametrize(
    ("engine", "device", "precisions"),
    [
        ("torch", "cpu", ["fp32", "bf16"]),
        ("torch", "cuda", ["fp32", "fp16", "bf16"]),
        ("torch-compile", "cpu", ["fp32", "bf16"]),
        ("ort", "cpu", ["fp32", "int8"]),
        ("ort", "cuda", ["fp32", "fp16"]),
        ("openvino", "cpu", ["fp32", "int8"]),
        ("openvino", "cuda", []),
        ("trt", "cuda", list(Precision)),
        ("reference", "cpu", list(Precision)),
        ("reference-rtx", "cpu", ["int8", "fp8"]),
    ],
)
def test_precisions_are_those_of_the_engine_fp32_first(
    monkeypatch: pytest.MonkeyPatch, engine: str, device: str, precisions: list[str]
) -> None:
    set_gpus(monkeypatch)
    monkeypatch.setattr("runtimes.subjects.computes_in_bfloat16", lambda device: True)
    assert precisions_of(engine, device) == precisions


def test_pytorch_has_no_bfloat16_where_that_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimes.subjects.computes_in_bfloat16", lambda device: device == "cuda")
    assert precisions_of("torch", "cpu") == ["fp32"]
    assert precisions_of("torch", "cuda") == ["fp32", "fp16", "bf16"]


@pytest.mark.parametrize(
    ("engine", "precision", "original"),
    [
        ("torch", "fp32", True),
        ("torch", "bf16", False),
        ("torch-compile", "fp32", False),
        ("ort", "fp32", False),
    ],
)
def test_only_float32_in_eager_pytorch_is_the_original(
    trained_runs: dict[str, Path], engine: str, precision: str, original: bool
) -> None:
    run = RunDirectory(trained_runs["preact"])
    subject = subject_in(run, engine, precision)
    assert subject.is_original == original
    assert subject.opens_weights == engine.startswith("torch")


def test_gpu_of_a_plan_is_the_one_it_fits_and_of_others_the_first(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_engine(preact_run, "engines/int8.rtx-sm89.engine", targets=("sm89",))
    set_gpus(monkeypatch, Gpu("NVIDIA A10", 86, 0), Gpu("NVIDIA L4", 89, 1))
    run = RunDirectory(preact_run.path)
    plan = subject_in(run, "trt", "int8", "cuda")
    assert gpu_index_of(run, plan) == 1
    assert gpu_index_of(run, subject_in(run, "torch", "fp32", "cuda")) == 0
    assert gpu_index_of(run, subject_in(run, "torch", "fp32", "cpu")) is None


@pytest.mark.parametrize(
    ("gpus_here", "missing"),
    [([T4], {"bf16", "fp8"}), ([A10], {"fp8"}), ([L4], set()), ([L4, A10], {"fp8"})],
)
def test_precisions_of_tensorrt_are_those_of_the_gpus_here(
    monkeypatch: pytest.MonkeyPatch, gpus_here: list[Gpu], missing: set[str]
) -> None:
    """A command without --precision would otherwise fail for a precision that no GPU here computes in."""
    set_gpus(monkeypatch, *gpus_here)
    assert set(Precision) - set(precisions_of("trt", "cuda")) == missing


def test_tensorrt_is_always_on_the_gpu() -> None:
    assert ENGINES["trt"].device("cpu") == "cuda"
    assert ENGINES["ort"].device("cpu") == "cpu"


@pytest.mark.parametrize(("engine", "precision"), [("ort", "fp16"), ("openvino", "fp16"), ("torch", "int8")])
def test_precision_an_engine_does_not_compute_in_is_refused(
    trained_runs: dict[str, Path], engine: str, precision: str
) -> None:
    with pytest.raises(UserError, match=f"{engine} cannot run {precision} on cpu"):
        subject_in(RunDirectory(trained_runs["preact"]), engine, precision)


def test_unknown_engine_is_refused_and_the_known_are_listed(trained_runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="unknown --engine 'tflite'") as refusal:
        subject_in(RunDirectory(trained_runs["preact"]), "tflite", "fp32")
    assert refusal.value.fix == (
        "use torch or torch-compile or ort or openvino or trt or ort-trt or ort-rtx or reference or "
        "reference-rtx"
    )


@pytest.mark.parametrize("name", [MODEL, MODEL_INT8_CPU])
def test_artifact_that_was_changed_is_not_opened(preact_run: RunDirectory, name: str) -> None:
    subject = subject_in(preact_run, "ort", "fp32" if name == MODEL else "int8")
    with (preact_run.path / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=f"{name} is not the file"):
        open_subject(preact_run, subject)


def test_artifact_that_was_not_made_is_not_opened(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(UserError, match=f"{MODEL} has not been made"):
        open_subject(run, subject_in(run, "ort", "fp32"))


def test_threads_are_passed_on(trained_runs: dict[str, Path]) -> None:
    run = RunDirectory(trained_runs["preact"])
    assert open_subject(run, subject_in(run, "ort", "fp32"), threads=1).threads == 1


@pytest.mark.parametrize(("given", "captured"), [(None, True), (True, True), (False, False)])
def test_cuda_graphs_are_passed_on(trained_runs: dict[str, Path], given: bool | None, captured: bool) -> None:
    run = RunDirectory(trained_runs["preact"])
    opened = open_subject(run, subject_in(run, "ort", "fp32"), cuda_graphs=given)
    assert opened.cuda_graphs is captured


@pytest.mark.parametrize("gpus_here", [[], [L4]])
def test_no_engine_says_how_to_build_one(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, gpus_here: list[Gpu]
) -> None:
    set_gpus(monkeypatch, *gpus_here)
    publish_engine(preact_run, "engines/fp32.rtx.engine")
    with pytest.raises(UserError, match="no int8 engine for this machine") as refusal:
        subject_in(preact_run, "trt", "int8")
    assert "build --precision int8" in refusal.value.fix


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    ("gpus_here", "chosen"),
    [
        ([], "engines/int8.rtx-sm86.engine"),
        ([L4], "engines/int8.rtx-sm89.engine"),
        ([A10], "engines/int8.rtx-sm86.engine"),
        ([RTX5090], "engines/int8.rtx.engine"),
        ([B200, L4], "engines/int8.rtx-sm89.engine"),
    ],
    ids=["newest where there is no GPU", "L4", "A10", "one without targets", "second GPU"],
)
def test_engine_that_fits_the_gpu_is_chosen_the_newest_if_several_do(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, gpus_here: list[Gpu], chosen: str
) -> None:
    for targets in ((), ("sm89",), ("sm86",)):
        publish_engine(preact_run, f"engines/{'-'.join(['int8.rtx', *targets])}.engine", targets=targets)
    publish_engine(preact_run, "engines/fp32.rtx.engine")
    set_gpus(monkeypatch, *gpus_here)
    assert subject_in(preact_run, "trt", "int8") == Subject("trt", "int8", chosen, "cuda")


@pytest.mark.parametrize(("targets", "gpu"), [(("sm86",), L4), ((), B200)])
def test_engines_for_other_gpus_are_not_chosen(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...], gpu: Gpu
) -> None:
    """TensorRT for RTX runs on no B200, whatever it was built for."""
    publish_engine(preact_run, f"engines/{'-'.join(['int8.rtx', *targets])}.engine", targets=targets)
    set_gpus(monkeypatch, gpu)
    with pytest.raises(UserError, match="no int8 engine for this machine"):
        subject_in(preact_run, "trt", "int8")


def test_engine_is_not_chosen_by_a_sidecar_that_was_changed(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_engine(preact_run, "engines/int8.rtx-sm86.engine", targets=("sm86",))
    sidecar = preact_run.path / "engines/int8.rtx-sm86.json"
    sidecar.write_text(sidecar.read_text().replace("sm86", "sm89"))
    set_gpus(monkeypatch, L4)
    with pytest.raises(UserError, match=r"sm86\.json is not the file that `build` wrote"):
        subject_in(preact_run, "trt", "int8")
