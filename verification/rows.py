"""Tables kept in JSON files of the run directory, a row for each engine and precision.

Verifying one engine must not lose what is known of the others, nor keep what is no longer true: a row
stays only while the artifact and the checkpoint it was measured on are still the ones in the run, and
if it was measured on this machine and the same images.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from artifacts.json_codec import to_json
from artifacts.names import CHECKPOINT
from artifacts.run_directory import RunDirectory
from errors import UserError
from runtimes.engines import ENGINES
from runtimes.subjects import Subject

Row = dict[str, Any]


def row_of(run: RunDirectory, subject: Subject, figures: Row) -> Row:
    """A row: who was measured, on which files, and the figures."""
    return {
        **to_json(subject),
        "artifact_sha256": run.record(subject.artifact).sha256,
        "checkpoint_sha256": run.record(CHECKPOINT).sha256,
        **figures,
    }


def kept_rows(run: RunDirectory, name: str, machine: Row, new: list[Row], **more: Any) -> list[Row]:
    """Rows of an earlier document that still hold and that `new` does not replace.

    Args:
        more: fields beside the machine that must stand in that document with the same value.
    """
    if not (run.is_intact(name) and run.record(name).is_of_this_code):
        return []
    document = read_table(run.path / name)
    if any(document.get(field) != value for field, value in {"machine": machine, **more}.items()):
        return []
    replaced = {_identity(row) for row in new}
    return [row for row in document["rows"] if is_current(run, row) and _identity(row) not in replaced]


def is_current(run: RunDirectory, row: Row) -> bool:
    """Whether a row was measured on files that are still the run's, by an engine that there still is."""
    return (
        row["engine"] in ENGINES
        and row["artifact"] in run
        and run.record(row["artifact"]).sha256 == row["artifact_sha256"]
        and run.record(CHECKPOINT).sha256 == row["checkpoint_sha256"]
    )


def read_table(path: Path) -> Row:
    """Read a table back; UserError if it is none."""
    try:
        document = json.loads(path.read_text())
        document["rows"], document["machine"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a table of results ({error})", "measure again") from error
    return document


def table_text(machine: Row, rows: list[Row], **more: Any) -> str:
    """The text of a table's file."""
    return json.dumps({**more, "machine": machine, "rows": rows}, indent=1) + "\n"


def rows_of(subjects: Collection[Subject], rows: Iterable[Row]) -> list[Row]:
    """Those rows of a table that are about some subjects."""
    return [row for row in rows if Subject.of_row(row) in subjects]


def _identity(row: Row) -> tuple[Subject, int | None]:
    """What tells a row from every other row of its table."""
    return Subject.of_row(row), row.get("batch")
