"""Latency of engines next to PyTorch in one run, all in turns; see `runtimes.timing`.

benchmark.json has a row for each engine, precision, device and batch size that was measured. All rows were
measured with the same number of threads and the same choice of CUDA graphs, which stand beside them, because
a table or a plot compares them with one another. `not_run` says
of the last benchmark which engines it could not measure, and why. Such a benchmark is measured again by the
next call, because what was missing may be there by then.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from artifacts.names import BENCHMARK, CHECKPOINT, CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from machine.cpu import available_threads
from machine.description import this_machine
from progress import Progress, silent
from runtimes.engines import ORIGINAL
from runtimes.subjects import Subject, subject_in
from runtimes.timing import Rounds
from verification.contest import Measured, opened, timed_in_turns
from verification.ratios import ratio_of
from verification.refusal import MEASURED, Refusal
from verification.rows import Row, kept_rows, read_table, row_of, rows_of, table_text
from vocabulary import Device, Precision

BATCH_SIZES = (1, 8, 32)


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark came to.

    Attributes:
        rows: those of the engines that were asked for and of the original, at the batch sizes asked for.
        refusals: the engines that were not measured.
        done: whether anything was measured now.
    """

    rows: list[Row]
    refusals: list[Refusal]
    done: bool


def benchmark_from_artifacts(
    run: RunDirectory,
    dataset: Dataset,
    subjects: list[Subject],
    threads: int | None = None,
    seconds: float = 1.0,
    force: bool = False,
    progress: Progress = silent,
    allow_saturation: bool = False,
    batches: Sequence[int] = BATCH_SIZES,
    cuda_graphs: bool | None = None,
) -> Benchmark:
    """Time each subject, and the PyTorch original on its device, and write benchmark.json.

    Raises:
        UserError: none of the subjects can be run; the error is that of the first.
    """
    everyone = [*_originals(run, subjects), *subjects]
    everyone = list(dict.fromkeys(everyone))
    batches = tuple(dict.fromkeys(batches))
    machine = this_machine().to_json()
    step = Step(
        stage="benchmark",
        options={
            "subjects": [asdict(subject) for subject in everyone],
            "batches": batches,
            "seconds": seconds,
            "threads": threads,
            "cuda_graphs": cuda_graphs,
            "machine": machine,
        },
        inputs=tuple(dict.fromkeys((CHECKPOINT, CHECKPOINT_CARD, *(s.artifact for s in everyone)))),
        outputs=(BENCHMARK,),
        packages=("torch", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"),
    )
    if run.is_current(step) and not force:
        document = read_table(run.path / BENCHMARK)
        if not document["not_run"]:
            rows = [row for row in rows_of(everyone, document["rows"]) if row["batch"] in batches]
            return Benchmark(rows, [], False)
    with run.writing(step) as folder, ExitStack() as stack:
        contestants, refusals = opened(stack, run, everyone, threads, allow_saturation, cuda_graphs)
        _require_one_of(subjects, [entry.subject for entry in contestants], refusals)
        images = dataset.normalised(dataset.test.images[: max(batches)])
        measured: list[Measured] = []
        for batch in batches:
            ran, refused = timed_in_turns(contestants, images, batch, seconds, progress)
            measured += ran
            refusals += refused
        _require_one_of(subjects, [_subject(entry) for entry in measured], refusals)
        rows = [row_of(run, entry.contestant.subject, _figures(entry, measured)) for entry in measured]
        alike = {"threads": threads or available_threads(), "cuda_graphs": cuda_graphs is not False}
        kept = kept_rows(run, BENCHMARK, machine, rows, **alike)
        not_run = [refusal.to_row() for refusal in refusals]
        (folder / BENCHMARK).write_text(table_text(machine, kept + rows, **alike, not_run=not_run))
    return Benchmark(rows, refusals, True)


def _require_one_of(subjects: list[Subject], running: list[Subject], refusals: list[Refusal]) -> None:
    """Raise the error of the first subject if none of them runs; that of the original would not be it."""
    if subjects and not set(subjects) & set(running):
        first = subjects[0]
        named = (first.engine, first.precision, first.device)
        raise next(r for r in refusals if (r.engine, r.precision, r.device) == named).error


def _originals(run: RunDirectory, subjects: list[Subject]) -> list[Subject]:
    """PyTorch on each device that a subject runs on, since a ratio across devices would say nothing."""
    devices = dict.fromkeys(subject.device for subject in subjects) or ("cpu",)
    return [subject_in(run, ORIGINAL.name, Precision.fp32, device) for device in devices]


def _figures(entry: Measured, everyone: list[Measured]) -> Row:
    """All that a row says of an engine besides who it is."""
    subject, opening, first = entry.contestant.subject, entry.contestant.opening, entry.first
    on_cpu = subject.device == Device.cpu
    weights = [other for other in everyone if _shares_turns(entry, other) and _subject(other).opens_weights]
    original = next((other for other in weights if _subject(other).is_original), None)
    best = min(weights, key=lambda other: other.rounds.latency.p50_ms, default=None)
    return {
        "status": MEASURED,
        **asdict(entry.rounds.latency),
        **_ratio_figures("speedup", "over", entry.rounds, original),
        **_ratio_figures("over_best", "best_pytorch", entry.rounds, best),
        "device_ms": entry.device_ms,
        "load_ms": opening.ms,
        "first_ms": first.ms,
        "host_mb": {"load": opening.host_mb, "first": first.host_mb},
        "device_mb": None if on_cpu else {"load": opening.device_mb, "first": first.device_mb},
        "gpu": entry.gpu,
        "rounds_ms": entry.rounds.medians_ms,
        "runtime": entry.contestant.runtime.describe(),
    }


def _ratio_figures(name: str, over: str, rounds: Rounds, reference: Measured | None) -> dict[str, Any]:
    """A ratio, its interval and what it is over; all are None where there is nothing to compare with."""
    if reference is None:
        return {name: None, f"{name}_interval": None, over: None}
    ratio, subject = ratio_of(reference.rounds, rounds), _subject(reference)
    return {
        name: ratio.value,
        f"{name}_interval": ratio.interval,
        over: f"{subject.engine} {subject.precision} on {subject.device}",
    }


def _shares_turns(entry: Measured, other: Measured) -> bool:
    return other.rounds.batch == entry.rounds.batch and _subject(other).device == _subject(entry).device


def _subject(entry: Measured) -> Subject:
    return entry.contestant.subject
