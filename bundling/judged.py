"""Artifacts of a run with what `verify` found out about each."""

from dataclasses import dataclass
from typing import Any

from artifacts.json_codec import from_json
from artifacts.names import ACCURACY, ENGINE_FOLDER, PARITY
from artifacts.run_directory import RunDirectory
from bundling.document import VerdictEntry
from machine.description import Machine
from runtimes.subjects import Subject
from verification.rows import is_current, read_table
from vocabulary import Device, Precision

Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """An artifact with its verdict, or None where `verify` has found nothing out that still holds."""

    subject: Subject
    verdict: VerdictEntry | None

    @property
    def passed(self) -> bool:
        """Whether the artifact is verified."""
        return self.verdict is not None and self.verdict.passed


def judged_in(run: RunDirectory, subjects: list[Subject]) -> list[Judged]:
    """Return artifacts with their verdicts, on whatever machine those were found.

    A verdict holds while the artifact and the weights are the ones that were judged, by this revision of the
    code.
    """
    parity, accuracy = (_rows_in(run, name) for name in (PARITY, ACCURACY))
    return [Judged(subject, _verdict(parity.get(subject), accuracy.get(subject))) for subject in subjects]


def plans_in(run: RunDirectory, precisions: list[Precision]) -> list[Subject]:
    """Return the plans of a run that are fresh, of some precisions."""
    return [
        Subject("trt", precision, name, Device.cuda)
        for precision in precisions
        for name in run.recorded(f"{ENGINE_FOLDER}/{precision}.")
        if name.endswith(".engine") and run.is_fresh(name)
    ]


def _verdict(parity: Row | None, accuracy: Row | None) -> VerdictEntry | None:
    if parity is None or accuracy is None:
        return None
    return VerdictEntry(
        passed=parity["passed"],
        images=parity["images"],
        snr_db=parity["snr_db"],
        agreement=parity["agreement"],
        accuracy=accuracy["accuracy"],
        drop=accuracy["drop"],
        machine=parity["machine"],
    )


def _rows_in(run: RunDirectory, name: str) -> dict[Subject, Row]:
    """Return the rows of a table that still hold, each with the machine that it was measured on."""
    if not (run.is_intact(name) and run.record(name).is_of_this_code):
        return {}
    table = read_table(run.path / name)
    machine = from_json(Machine, table["machine"])
    return {Subject.of_row(row): row | {"machine": machine} for row in table["rows"] if is_current(run, row)}
