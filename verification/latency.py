"""Latency of engines next to PyTorch in one run.

The engines take turns: machines change their speed over seconds, and a ratio of two figures that
were measured in alternation survives that. A call is timed from images on the host to logits on the
host, so copies to a device and its synchronisation are inside. The first call after a change of
engine is not counted: it finds another engine's data in the caches.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from artifacts import BENCHMARK, CHECKPOINT, CHECKPOINT_CARD, RunDirectory, Step
from data.dataset import Dataset
from progress import Progress, silent
from runtimes.machine import this_machine
from runtimes.runtime import Batch, Runtime
from runtimes.subjects import Subject, open_subject, subject_in
from verification.rows import Row, kept_rows, read_table, row_of, table_text

BATCH_SIZES = (1, 8, 32)
ROUNDS = 10
_WARM_UP_CALLS = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call, over `calls` timed calls; `images_per_s` is batch over the median."""

    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float


def latencies(
    runtimes: Mapping[Key, Runtime],
    images: Batch,
    batch: int,
    seconds: float,
    progress: Progress = silent,
) -> dict[Key, Latency]:
    """Time open runtimes in turns on the first `batch` images.

    Args:
        runtimes: under keys of the caller's choice.
        images: normalised, at least one; repeated where the batch is larger.
        seconds: time for each runtime, all rounds together; each round has two timed calls at least.
    """
    inputs = np.resize(images, (batch, *images.shape[1:]))
    for runtime in runtimes.values():
        for _ in range(_WARM_UP_CALLS):
            runtime.infer(inputs)
    samples: dict[Key, list[float]] = {key: [] for key in runtimes}
    for _ in progress(range(ROUNDS), f"timing batch {batch}", ROUNDS):
        for key, runtime in runtimes.items():
            samples[key] += _timed_calls(runtime, inputs, seconds / ROUNDS)
    return {key: summary(times, batch) for key, times in samples.items()}


def summary(seconds: Sequence[float], batch: int) -> Latency:
    """Percentiles of call times given in seconds."""
    p50, p90, p99 = (1000 * float(q) for q in np.percentile(seconds, [50, 90, 99]))
    return Latency(batch, len(seconds), p50, p90, p99, 1000 * batch / p50)


def benchmark_from_artifacts(
    run: RunDirectory,
    dataset: Dataset,
    subjects: list[Subject],
    threads: int | None = None,
    seconds: float = 1.0,
    force: bool = False,
    progress: Progress = silent,
    allow_saturation: bool = False,
) -> tuple[list[Row], bool]:
    """Time each subject and the PyTorch original at `BATCH_SIZES` and write benchmark.json.

    Returns:
        the rows, the original's included, and whether anything was measured.
    """
    original = subject_in(run, "torch", "fp32", _device_of_original(subjects))
    subjects = [original, *(s for s in subjects if s != original)]
    machine = this_machine().to_json()
    step = Step(
        stage="benchmark",
        options={
            "subjects": [asdict(subject) for subject in subjects],
            "batches": BATCH_SIZES,
            "seconds": seconds,
            "threads": threads,
            "machine": machine,
        },
        inputs=(CHECKPOINT, CHECKPOINT_CARD, *dict.fromkeys(s.artifact for s in subjects[1:])),
        outputs=(BENCHMARK,),
        packages=("torch", "onnxruntime-gpu", "openvino"),
    )
    if run.is_current(step) and not force:
        rows = read_table(run.path / BENCHMARK)["rows"]
        wanted = {(s.engine, s.precision, s.artifact, s.device) for s in subjects}
        fields = ("engine", "precision", "artifact", "device")
        return [row for row in rows if tuple(row[name] for name in fields) in wanted], False
    with run.writing(step) as folder:
        rows = _measure(run, dataset, subjects, threads, seconds, progress, allow_saturation)
        kept = kept_rows(run, BENCHMARK, machine, rows)
        (folder / BENCHMARK).write_text(table_text(machine, kept + rows))
    return rows, True


def _measure(
    run: RunDirectory,
    dataset: Dataset,
    subjects: list[Subject],
    threads: int | None,
    seconds: float,
    progress: Progress,
    allow_saturation: bool,
) -> list[Row]:
    from contextlib import ExitStack

    images = dataset.normalised(dataset.test.images[: max(BATCH_SIZES)])
    with ExitStack() as stack:
        # The original last: an engine that cannot run here is to be named first.
        opened = {
            subject: stack.enter_context(open_subject(run, subject, threads, allow_saturation))
            for subject in reversed(subjects)
        }
        opened = {subject: opened[subject] for subject in subjects}
        described = {subject: runtime.describe() for subject, runtime in opened.items()}
        rows = []
        for batch in BATCH_SIZES:
            measured = latencies(opened, images, batch, seconds, progress)
            baseline = measured[subjects[0]].p50_ms
            for subject, latency in measured.items():
                figures = asdict(latency) | {
                    "speedup": baseline / latency.p50_ms,
                    "runtime": described[subject],
                }
                rows.append(row_of(run, subject, figures))
    return rows


def _device_of_original(subjects: list[Subject]) -> str:
    """GPU engines are measured against PyTorch on the GPU."""
    return "cuda" if subjects and all(s.device == "cuda" for s in subjects) else "cpu"


def _timed_calls(runtime: Runtime, inputs: Batch, seconds: float) -> list[float]:
    runtime.infer(inputs)
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        started = time.perf_counter()
        runtime.infer(inputs)
        times.append(time.perf_counter() - started)
    return times
