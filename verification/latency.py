"""Latency of engines next to PyTorch in one run, all in turns; see `runtimes.timing`."""

from dataclasses import asdict

from artifacts.names import BENCHMARK, CHECKPOINT, CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from machine.description import this_machine
from progress import Progress, silent
from runtimes.subjects import Subject, open_subject, subject_in
from runtimes.timing import latencies
from verification.rows import Row, kept_rows, read_table, row_of, rows_of, table_text

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
