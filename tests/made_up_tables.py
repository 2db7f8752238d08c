"""Tables of results as the stages write them into a run, with figures that are made up."""

from typing import Any

from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from runtimes.subjects import Subject, subject_in
from verification.rows import Row, row_of, table_text

MACHINE = {
    "cpu": "Made <Up> CPU",
    "instruction_sets": ["AVX2"],
    "cores": 2,
    "gpus": [],
    "system": "Linux x86_64, Python 3.11",
}


def write_table(
    run: RunDirectory, name: str, *rows: tuple[Subject, Row], machine: Row = MACHINE, **more: Any
) -> None:
    document = table_text(machine, [row_of(run, subject, figures) for subject, figures in rows], **more)
    with run.writing(Step("export", {}, (), (name,))) as folder:
        (folder / name).write_text(document)


def subjects_in(run: RunDirectory, *named: tuple[str, str]) -> list[Subject]:
    return [subject_in(run, *name) for name in named]


def parity(snr_db: float | None = 100.0, agreement: float = 100.0, failures: tuple[str, ...] = ()) -> Row:
    return {
        "images": 360,
        "snr_db": snr_db,
        "max_error": 0.1,
        "agreement": agreement,
        "passed": not failures,
        "failures": list(failures),
    }


def timing(batch: int, p50_ms: float, original_ms: float) -> Row:
    return {
        "batch": batch,
        "calls": 100,
        "p50_ms": p50_ms,
        "p90_ms": p50_ms,
        "p99_ms": p50_ms,
        "images_per_s": 1000 * batch / p50_ms,
        "speedup": original_ms / p50_ms,
        "runtime": {},
    }
