"""Latency of engines next to PyTorch in one run, all in turns; see `runtimes.timing`."""

from dataclasses import asdict

from artifacts.names import BENCHMARK, CHECKPOINT, CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from machine.description import this_machine
from progress import Progress, silent
from runtimes.engines import ORIGINAL, engine_named
from runtimes.subjects import Subject, open_subject, subject_in
from runtimes.timing import latencies
from verification.rows import Row, kept_rows, read_table, row_of, rows_of, table_text
from vocabulary import Precision

BATCH_SIZES = (1, 8, 32)


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
    originals = _originals(run, subjects)
    subjects = [*originals, *(subject for subject in subjects if subject not in originals)]
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
        inputs=tuple(dict.fromkeys((CHECKPOINT, CHECKPOINT_CARD, *(s.artifact for s in subjects)))),
        outputs=(BENCHMARK,),
        packages=("torch", "onnxruntime", "openvino"),
    )
    if run.is_current(step) and not force:
        return rows_of(subjects, read_table(run.path / BENCHMARK)["rows"]), False
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
            baselines = {s.device: measured[s].p50_ms for s in subjects if engine_named(s.engine).is_original}
            for subject, latency in measured.items():
                figures = asdict(latency) | {
                    "speedup": baselines[subject.device] / latency.p50_ms,
                    "over": f"{ORIGINAL.name} on {subject.device}",
                    "runtime": described[subject],
                }
                rows.append(row_of(run, subject, figures))
    return rows


def _originals(run: RunDirectory, subjects: list[Subject]) -> list[Subject]:
    """PyTorch on each device that a subject runs on, since a ratio across devices would say nothing."""
    devices = dict.fromkeys(subject.device for subject in subjects) or ("cpu",)
    return [subject_in(run, ORIGINAL.name, Precision.fp32, device) for device in devices]
