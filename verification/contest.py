"""Open engines side by side, and time them in turns at one batch size.

An engine that cannot be opened, or whose first call at a batch size fails, becomes a `Refusal` and does not
keep the others from being measured.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

from artifacts.run_directory import RunDirectory
from errors import UserError
from graphs.card import Batch
from machine.gpu import GpuState, gpu_state
from progress import Progress, silent
from runtimes.runtime import Runtime
from runtimes.subjects import Subject, gpu_index_of, open_subject
from runtimes.timing import Rounds, filled, timed_rounds
from verification.costs import Cost, with_cost
from verification.refusal import Refusal, refusal_of


@dataclass(frozen=True)
class Contestant:
    """An engine that is open.

    Attributes:
        opening: what it took to load the artifact. Importing the library is no part of that.
        gpu: the number of the GPU that the engine runs on; None on a CPU.
    """

    subject: Subject
    runtime: Runtime
    opening: Cost
    gpu: int | None


@dataclass(frozen=True)
class Measured:
    """One engine at one batch size.

    Attributes:
        first: what the first call at this batch size took, compilation for this size included.
        device_ms: the median of the device's own time, without copies; None where there is no such clock.
        gpu: the mean of what the GPU reported behind each turn; None without a GPU.
    """

    contestant: Contestant
    first: Cost
    rounds: Rounds
    device_ms: float | None
    gpu: dict[str, float | None] | None


def opened(
    stack: ExitStack,
    run: RunDirectory,
    subjects: Iterable[Subject],
    threads: int | None = None,
    allow_saturation: bool = False,
    cuda_graphs: bool | None = None,
) -> tuple[list[Contestant], list[Refusal]]:
    """Open each subject until the stack is left.

    Returns:
        those that opened, and a refusal for each other one.
    """
    contestants, refusals = [], []
    for subject in subjects:
        try:
            runtime = open_subject(run, subject, threads, allow_saturation, cuda_graphs)
            _, cost = with_cost(partial(stack.enter_context, runtime))
        except UserError as error:
            refusals.append(refusal_of(error, subject.engine, subject.precision, subject.device))
        else:
            contestants.append(Contestant(subject, runtime, cost, gpu_index_of(run, subject)))
    return contestants, refusals


def timed_in_turns(
    contestants: list[Contestant],
    images: Batch,
    batch: int,
    seconds: float,
    progress: Progress = silent,
) -> tuple[list[Measured], list[Refusal]]:
    """Time open engines at one batch size.

    Args:
        images: at least one normalised image; the images repeat if there are fewer than `batch`.
        seconds: the time to spend on each engine.

    Returns:
        those that ran, and a refusal for each one whose first call failed.
    """
    inputs = filled(images, batch)
    firsts, refusals = _first_calls(contestants, inputs)
    running = {entry.subject: entry for entry in contestants if entry.subject in firsts}
    device_times: dict[Subject, list[float]] = {subject: [] for subject in running}
    states: dict[Subject, list[GpuState]] = {subject: [] for subject in running}

    def look(subject: Subject) -> None:
        entry = running[subject]
        if entry.gpu is not None and (state := gpu_state(entry.gpu)) is not None:
            states[subject].append(state)
        if (ms := entry.runtime.device_ms(inputs)) is not None:
            device_times[subject].append(ms)

    runtimes = {subject: entry.runtime for subject, entry in running.items()}
    timed = timed_rounds(runtimes, images, batch, seconds, progress, look)
    return [
        Measured(
            entry,
            firsts[subject],
            timed[subject],
            median(device_times[subject]) if device_times[subject] else None,
            _mean_state(states[subject]),
        )
        for subject, entry in running.items()
    ], refusals


def _first_calls(contestants: list[Contestant], inputs: Batch) -> tuple[dict[Subject, Cost], list[Refusal]]:
    costs, refusals = {}, []
    for entry in contestants:
        subject = entry.subject
        try:
            _, costs[subject] = with_cost(partial(entry.runtime.infer, inputs))
        except UserError as error:
            refusals.append(refusal_of(error, subject.engine, subject.precision, subject.device, len(inputs)))
    return costs, refusals


def _mean_state(states: list[GpuState]) -> dict[str, Any] | None:
    """The mean of each figure that every state has."""
    if not states:
        return None
    columns = {name: [asdict(state)[name] for state in states] for name in asdict(states[0])}
    return {name: None if None in values else fmean(values) for name, values in columns.items()}
