"""The file of `benchmark --save`, with which a later benchmark can be compared."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from artifacts.files import write_atomically
from errors import UserError
from verification.refusal import MEASURED
from workflow.choice import Session
from workflow.measure import DEFAULT_SECONDS, Row
from workflow.options import BenchmarkOptions, RuntimeOptions

FORMAT = 1
Document = Mapping[str, Any]
_FIELDS = ("machine", "versions", "network", "options", "rows")
_COMPARED = ("engine", "precision", "device", "batch", "speedup", "speedup_interval", "over")


def document_of(
    session: Session, runtime: RuntimeOptions, options: BenchmarkOptions, rows: list[Row]
) -> Document:
    """All that is needed to read the rows, and to know what they may be compared with."""
    from machine.cpu import available_threads
    from machine.description import package_versions, this_machine
    from verification.latency import BATCH_SIZES

    model = session.card.model
    return {
        "format": FORMAT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": this_machine().to_json(),
        "versions": package_versions(),
        "network": {
            "variant": model.variant,
            "depth": model.depth,
            "block": model.block,
            "classes": model.num_classes,
        },
        "options": {
            "threads": runtime.threads or available_threads(),
            "cuda_graphs": runtime.cuda_graphs is not False,
            "seconds": options.seconds or DEFAULT_SECONDS,
            "batches": options.batch or list(BATCH_SIZES),
        },
        "rows": rows,
    }


def require_place_for(path: Path) -> None:
    """Refuse a place that a document cannot be written to, before minutes are spent on measuring.

    Raises:
        UserError: the folder is not there or takes no file, or the path is a folder.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise UserError(f"--save {path} is no place for a file", "name a FILE.json in a folder that exists")
    # Only a file shows this, because permissions say nothing of a volume that is mounted read-only.
    with _errors_of_writing(path), TemporaryFile(dir=path.parent):
        pass


def write_document(path: Path, document: Document) -> None:
    """Write a document, replacing an earlier one; UserError if the system does not let it be written."""
    with _errors_of_writing(path):
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def benchmark_from_file(path: Path) -> Document:
    """Read a document; UserError if the file is none."""
    try:
        document = json.loads(path.read_text())
        _require_fields(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a file that `benchmark --save` wrote ({error})", "give the FILE.json of --save"
        ) from error
    return document


def _require_fields(document: Any) -> None:
    """Raise a ValueError, KeyError or TypeError unless the document has what a comparison reads."""
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']}, not {FORMAT}")
    if missing := [name for name in _FIELDS if name not in document]:
        raise ValueError(f"it has no {missing[0]}")
    for name in ("machine", "network", "options"):
        if not isinstance(document[name], dict):
            raise TypeError(f"its {name} is no object")
    for row in document["rows"]:
        if row["status"] == MEASURED and (missing := [name for name in _COMPARED if name not in row]):
            raise ValueError(f"a row has no {missing[0]}")


@contextmanager
def _errors_of_writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--save {path} cannot be written ({error.strerror})",
            "name a FILE.json in a folder that can be written to and has space",
        ) from error
