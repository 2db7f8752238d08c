"""Which file of a run an engine opens in which precision."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from artifacts.names import CHECKPOINT, ENGINE_FOLDER
from artifacts.run_directory import RunDirectory
from errors import UserError
from machine.gpu import gpus
from runtimes.engines import engine_named
from runtimes.runtime import Runtime
from runtimes.tensorrt.engine_card import card_of_engine
from runtimes.tensorrt.targets import precisions_here
from vocabulary import Precision


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
    spec = engine_named(engine)
    offered = {precision for at, precision in spec.runtime().supports if at == device}
    if spec.opens_plans:
        offered &= set(precisions_here())
    return [precision for precision in Precision if precision in offered]


def subject_in(run: RunDirectory, engine: str, precision: str, device: str = "cpu") -> Subject:
    """Find the artifact an engine opens.

    Raises:
        UserError: unknown engine, a precision it does not compute in, or no such artifact.
    """
    spec = engine_named(engine)
    at = spec.device(device)
    runtime = spec.runtime()
    if (at, precision) not in runtime.supports:
        reason, fix = runtime.refusal
        raise UserError(f"{engine} cannot run {precision} on {at} ({reason})", fix)
    if spec.is_original:
        artifact = CHECKPOINT
    elif spec.opens_plans:
        artifact = _engine_in(run, precision)
    else:
        artifact = spec.graphs[precision]
    return Subject(engine, precision, artifact, at)


def open_subject(
    run: RunDirectory, subject: Subject, threads: int | None = None, allow_saturation: bool = False
) -> Runtime:
    """The runtime of a subject, to be used as a context manager; its files are verified first."""
    spec = engine_named(subject.engine)
    path = run.verified(subject.artifact)
    if spec.is_original or spec.opens_plans:
        run.verified(_description_of(subject.artifact))
    return spec.runtime()(path, subject.precision, subject.device, threads, allow_saturation)


def _description_of(artifact: str) -> str:
    """The JSON file that belongs to weights or a plan and is read with them."""
    return str(PurePosixPath(artifact).with_suffix(".json"))


def _engine_in(run: RunDirectory, precision: str) -> str:
    """The engine of a precision that fits the GPU here; without a GPU, the newest."""
    recorded = run.recorded(f"{ENGINE_FOLDER}/{precision}.")
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
