"""Which file of a run an engine opens in which precision."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from artifacts import (
    CHECKPOINT,
    ENGINES,
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    RunDirectory,
)
from errors import UserError
from graphs.card import PRECISIONS
from runtimes.nvidia import gpus
from runtimes.runtime import Runtime
from runtimes.targets import precisions_here

ENGINE_NAMES = ("torch", "ort", "openvino", "trt", "reference")
# The graphs made for TensorRT.
GPU_GRAPHS = {
    "fp32": MODEL,
    "fp16": MODEL_FP16,
    "bf16": MODEL_BF16,
    "int8": MODEL_INT8_GPU,
    "fp8": MODEL_FP8_GPU,
}
_GRAPHS = {
    "ort": {"fp32": MODEL, "fp16": MODEL_FP16, "int8": MODEL_INT8_CPU},
    "openvino": {"fp32": MODEL, "int8": MODEL_INT8_OPENVINO},
    # What TensorRT is given, evaluated where there is no GPU.
    "reference": GPU_GRAPHS,
}


@dataclass(frozen=True)
class Subject:
    """One engine with one artifact: a row of every table.

    Attributes:
        artifact: name of the file in the run directory.
        device: "cpu" or "cuda".
    """

    engine: str
    precision: str
    artifact: str
    device: str


def precisions_of(engine: str, device: str) -> list[str]:
    """The precisions an engine really computes in on a device, fp32 first; TensorRT's are the GPU's."""
    offered = {precision for at, precision in _class_of(engine).supports if at == device}
    if engine == "trt":
        offered &= set(precisions_here())
    return [precision for precision in PRECISIONS if precision in offered]


def device_of(engine: str, device: str) -> str:
    """The device an engine is used on: TensorRT's is always the GPU."""
    return "cuda" if engine == "trt" else device


def subject_in(run: RunDirectory, engine: str, precision: str, device: str = "cpu") -> Subject:
    """Find the artifact an engine opens.

    Raises:
        UserError: unknown engine, a precision it does not compute in, or no such artifact.
    """
    at = device_of(engine, device)
    runtime = _class_of(engine)
    if (at, precision) not in runtime.supports:
        reason, fix = runtime.refusal
        raise UserError(f"{engine} cannot run {precision} on {at} ({reason})", fix)
    if engine == "torch":
        artifact = CHECKPOINT
    elif engine == "trt":
        artifact = _engine_in(run, precision)
    else:
        artifact = _GRAPHS[engine][precision]
    return Subject(engine, precision, artifact, at)


def open_subject(
    run: RunDirectory, subject: Subject, threads: int | None = None, allow_saturation: bool = False
) -> Runtime:
    """The runtime of a subject, to be used as a context manager; its files are verified first."""
    path = run.verified(subject.artifact)
    if subject.engine in ("torch", "trt"):
        run.verified(_description_of(subject.artifact))
    return _class_of(subject.engine)(path, subject.precision, subject.device, threads, allow_saturation)


def _description_of(artifact: str) -> str:
    """The JSON file that belongs to weights or a plan and is read with them."""
    return str(PurePosixPath(artifact).with_suffix(".json"))


def _class_of(engine: str) -> type[Runtime]:
    # Imported one at a time: each loads a framework.
    if engine == "torch":
        from runtimes.torch_runtime import TorchRuntime

        return TorchRuntime
    if engine == "ort":
        from runtimes.ort_runtime import OrtRuntime

        return OrtRuntime
    if engine == "openvino":
        from runtimes.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime
    if engine == "trt":
        from runtimes.trt_runtime import TrtRuntime

        return TrtRuntime
    if engine == "reference":
        from runtimes.ort_runtime import ReferenceRuntime

        return ReferenceRuntime
    raise UserError(f"unknown engine '{engine}'", f"use {' or '.join(ENGINE_NAMES)}")


def _engine_in(run: RunDirectory, precision: str) -> str:
    """The engine of a precision that fits the GPU here; without a GPU, the newest."""
    from runtimes.engine_from_onnx import card_of_engine

    recorded = run.recorded(f"{ENGINES}/{precision}.")
    names = [name for name in recorded if name.endswith(".engine") and run.is_fresh(name)]
    names.sort(key=lambda name: run.record(name).written)
    capabilities = {f"sm{gpu.compute_capability}" for gpu in gpus()}
    if capabilities:
        for name in names:
            run.verified(_description_of(name))
        cards = {name: card_of_engine(run.path / name) for name in names}
        names = [n for n in names if not cards[n].targets or capabilities & set(cards[n].targets)]
    if not names:
        raise UserError(
            f"{run.path} has no {precision} engine for this machine",
            f"run `python cli.py build --precision {precision}`",
        )
    return names[-1]
