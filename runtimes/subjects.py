"""Choose the file of a run that an engine opens in a precision, and open the file."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from artifacts.names import CHECKPOINT, ENGINE_FOLDER
from artifacts.run_directory import RunDirectory
from errors import UserError
from machine.bfloat16 import computes_in_bfloat16
from machine.gpu import gpus
from runtimes.engines import ORIGINAL, engine_named
from runtimes.runtime import Runtime
from runtimes.tensorrt.engine_card import card_of_engine
from runtimes.tensorrt.fit import fitting_gpu, misfit
from runtimes.tensorrt.targets import precisions_here
from vocabulary import Device, Precision


@dataclass(frozen=True)
class Subject:
    """One engine with one artifact, which is a row of every table.

    Attributes:
        engine: the name of the engine, for example "ort".
        precision: the precision that the engine computes in.
        artifact: the name of the file in the run directory.
        device: the device that the engine runs on.
    """

    engine: str
    precision: Precision
    artifact: str
    device: Device

    @property
    def is_original(self) -> bool:
        """Whether this is PyTorch in float32, which all other subjects are compared with."""
        return self.engine == ORIGINAL.name and self.precision == Precision.fp32

    @property
    def opens_weights(self) -> bool:
        """Whether this is PyTorch in one of its forms."""
        return engine_named(self.engine).opens_weights

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Subject":
        """Whom a row of a table is about; KeyError if it does not say so."""
        return cls(*(row[entry.name] for entry in fields(cls)))


def precisions_of(engine: str, device: str) -> list[Precision]:
    """Return the precisions that an engine computes in on a device, fp32 first.

    TensorRT has the precisions that every GPU of this machine has, and PyTorch has bfloat16 where the device
    has instructions for it.
    """
    spec = engine_named(engine)
    offered = {precision for at, precision in spec.runtime().supports if at == device}
    if spec.opens_plans:
        offered &= set(precisions_here())
    if spec.opens_weights and not computes_in_bfloat16(device):
        offered -= {Precision.bf16}
    return [precision for precision in Precision if precision in offered]


def subject_in(run: RunDirectory, engine: str, precision: str, device: str = "cpu") -> Subject:
    """Choose the artifact that an engine opens in a precision.

    Raises:
        UserError: no engine has this name, the engine does not compute in this precision, or the run has
            no engine file for the GPU of this machine.
    """
    spec = engine_named(engine)
    at = spec.device(device)
    spec.runtime().require_support(precision, at)
    if spec.opens_weights:
        artifact = CHECKPOINT
    elif spec.opens_plans:
        artifact = _engine_in(run, precision)
    else:
        artifact = spec.graphs[precision]
    return Subject(engine, Precision(precision), artifact, Device(at))


def open_subject(
    run: RunDirectory,
    subject: Subject,
    threads: int | None = None,
    allow_saturation: bool = False,
    cuda_graphs: bool | None = None,
) -> Runtime:
    """Verify the files of a subject and return the runtime, which is a context manager.

    Args:
        threads, allow_saturation, cuda_graphs: as in `Runtime`.
    """
    spec = engine_named(subject.engine)
    path = run.verified(subject.artifact)
    if spec.opens_weights or spec.opens_plans:
        run.verified(_description_of(subject.artifact))
    return spec.runtime()(path, subject.precision, subject.device, threads, allow_saturation, cuda_graphs)


def gpu_index_of(run: RunDirectory, subject: Subject) -> int | None:
    """The number of the GPU that an open subject runs on; None on a CPU.

    A plan runs on the first GPU that it was built for, and every other engine on the first GPU.
    """
    if subject.device != Device.cuda:
        return None
    if not engine_named(subject.engine).opens_plans:
        return 0
    return fitting_gpu(card_of_engine(run.path / subject.artifact), gpus()).index


def _description_of(artifact: str) -> str:
    """Return the name of the JSON file that describes weights or a plan."""
    return str(PurePosixPath(artifact).with_suffix(".json"))


def _engine_in(run: RunDirectory, precision: str) -> str:
    """Return the newest engine file of a precision that a GPU of this machine can run.

    Without a GPU, the newest file is returned, whatever GPUs it was built for.
    """
    recorded = run.recorded(f"{ENGINE_FOLDER}/{precision}.")
    names = [name for name in recorded if name.endswith(".engine") and run.is_fresh(name)]
    names.sort(key=lambda name: run.record(name).written, reverse=True)
    devices = gpus()
    for name in names:
        if not devices:
            return name
        run.verified(_description_of(name))
        card = card_of_engine(run.path / name)
        if any(misfit(card, gpu) is None for gpu in devices):
            return name
    raise UserError(
        f"{run.path} has no {precision} engine for this machine",
        f"run `python cli.py build --precision {precision}`",
    )
