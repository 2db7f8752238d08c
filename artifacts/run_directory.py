"""The run directory: file names, manifest, hashes, atomic writes, up-to-date checks.

Every stage writes through `RunDirectory.writing`, which hands it an empty folder inside the run
directory and moves the files into place only when the stage has ended well. `manifest.json` then
records for each file its sha256, the stage, options and versions that made it and the sha256 of
what it was made from. Nothing is handed out for reading whose hash differs from that record.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifacts.files import PARTIAL, environment_errors, sha256_of, write_atomically, write_flushed
from artifacts.json_codec import from_json
from artifacts.names import MANIFEST
from artifacts.records import FileRecord, Step
from artifacts.versions import versions_of
from errors import UserError

FORMAT = 3
# Format 2 recorded no revisions.
_READABLE = (2, FORMAT)
_LOCK = ".lock"


class RunDirectory:
    """One run's files.

    Args:
        path: the folder; made when something is first written.

    Raises:
        UserError: a manifest is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, FileRecord] = self._read_manifest()

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def record(self, name: str) -> FileRecord:
        """The manifest's record of a file; KeyError if there is none."""
        return self._records[name]

    def recorded(self, prefix: str = "") -> list[str]:
        """Names of the recorded files that begin with `prefix`, sorted."""
        return sorted(name for name in self._records if name.startswith(prefix))

    def verified(self, name: str) -> Path:
        """Path of a recorded file whose content is what the manifest says.

        Raises:
            UserError: not recorded, missing, or changed since.
        """
        record = self._records.get(name)
        path = self.path / name
        if record is None:
            raise UserError(f"{path} has not been made", "run the stage that writes it first")
        if not path.is_file():
            raise UserError(f"{path} is gone", f"rerun `{record.command} --force`")
        if sha256_of(path) != record.sha256:
            raise UserError(
                f"{path} is not the file that `{record.command}` wrote (its sha256 differs)",
                f"restore it, or rerun `{record.command} --force`",
            )
        return path

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """The objects of a .jsonl file; raises as `verified`."""
        return [json.loads(line) for line in self.verified(name).read_text().splitlines()]

    def is_intact(self, name: str) -> bool:
        """Whether a file is recorded and its content is what the manifest says."""
        record = self._records.get(name)
        path = self.path / name
        return record is not None and path.is_file() and sha256_of(path) == record.sha256

    def is_fresh(self, name: str) -> bool:
        """Whether a file would be made alike from what is recorded now.

        That holds if the code that made the file is of the same revision, if every file that it was made
        from is recorded with the same content, and if each of those is fresh in its turn: after another
        training model.onnx is stale, and with model.onnx everything that was made from it.
        """
        record = self._records.get(name)
        return (
            record is not None
            and record.is_of_this_code
            and all(
                self.is_fresh(source) and self._records[source].sha256 == sha256
                for source, sha256 in record.inputs.items()
            )
        )

    def is_current(self, step: Step) -> bool:
        """Whether all outputs are intact and were made by just this step from just these inputs."""
        wanted = self._expected(step)
        return wanted is not None and all(
            self.is_intact(name)
            and self._records[name].stage == step.stage
            and self._records[name].revision == step.revision
            and self._records[name].options == wanted["options"]
            and self._records[name].inputs == wanted["inputs"]
            and self._records[name].versions == wanted["versions"]
            for name in step.outputs
        )

    def reread(self) -> None:
        """Read the manifest again, which another process may have written since."""
        self._records = self._read_manifest()

    def is_under_way(self, stage: str) -> bool:
        """Whether another process is in a stage that it keeps others out of; see `alone`."""
        from filelock import FileLock, Timeout

        if not (self.path / _lock_of(stage)).exists():
            return False
        try:
            FileLock(self.path / _lock_of(stage), timeout=0).acquire().lock.release()
        except Timeout:
            return True
        return False

    @contextmanager
    def alone(self, stage: str, wait: bool = False) -> Iterator[None]:
        """Keep a second process out of a stage that writes more than once, or that takes long.

        Args:
            wait: for a process that is in this stage to leave; `reread` then tells what that process wrote.

        Raises:
            UserError: another process is in this stage and is not waited for; the folder cannot be written.
        """
        with self._locked(_lock_of(stage), f"another `{stage}` is under way in {self.path}", wait):
            yield

    @contextmanager
    def writing(self, step: Step, wait: bool = False) -> Iterator[Path]:
        """Give the body an empty folder to write `step.outputs` into; publish them when it ends.

        If the body raises (Ctrl-C too), the run directory is as it was. Inputs are hashed before the
        body runs.

        Args:
            wait: for another process that is writing to this run.

        Raises:
            UserError: an input is missing or changed; the folder cannot be written; the disk is
                full; another process is writing to this run.
        """
        inputs = {name: sha256_of(self.verified(name)) for name in step.inputs}
        partial = self.path / f"{PARTIAL}-{step.stage}"
        busy = f"another skipfold process is writing to {self.path}"
        with self._locked(_LOCK, busy, wait), environment_errors(self.path):
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                yield partial
                self._publish(step, partial, inputs)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def discard(self, *names: str) -> None:
        """Remove files and their records; nothing happens where there are none.

        Another process that is writing to this run is waited for.
        """
        if self._records.keys() & names:
            with self._locked(_LOCK, "", wait=True):
                records = self._read_manifest()
                self._records = {name: record for name, record in records.items() if name not in names}
                write_atomically(self.path / MANIFEST, _manifest_of(self._records))
                for name in records.keys() & names:
                    (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, name: str, problem: str, wait: bool = False) -> Iterator[None]:
        """Hold a lock of this run; `problem` is said where another process holds it."""
        from filelock import FileLock, Timeout

        with environment_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / name, timeout=-1 if wait else 0)
            try:
                lock.acquire()
            except Timeout as error:
                raise UserError(problem, "wait for it, or use another --run-dir") from error
        try:
            yield
        finally:
            lock.release()

    def _publish(self, step: Step, partial: Path, inputs: dict[str, str]) -> None:
        self._records = self._read_manifest()
        written = datetime.now(UTC).isoformat(timespec="seconds")
        fresh = {}
        for name in step.outputs:
            source = partial / name
            fresh[name] = FileRecord(
                sha256=sha256_of(source),
                size=source.stat().st_size,
                stage=step.stage,
                options=_as_json(step.options),
                inputs=inputs,
                versions=versions_of(step.packages),
                written=written,
                revision=step.revision,
            )
        records = self._records | fresh
        # Written out before any file moves, so that a full disk is met while nothing has changed.
        manifest = partial / MANIFEST
        write_flushed(manifest, _manifest_of(records))
        for name in step.outputs:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        for name in step.outputs:
            (partial / name).replace(self.path / name)
        manifest.replace(self.path / MANIFEST)
        self._records = records

    def _expected(self, step: Step) -> dict[str, Any] | None:
        if not all(self.is_intact(name) for name in step.inputs):
            return None
        return {
            "options": _as_json(step.options),
            "inputs": {name: self._records[name].sha256 for name in step.inputs},
            "versions": versions_of(step.packages),
        }

    def _read_manifest(self) -> dict[str, FileRecord]:
        path = self.path / MANIFEST
        try:
            document = json.loads(path.read_text())
            if document["format"] not in _READABLE:
                raise ValueError(f"format {document['format']}")
            return from_json(dict[str, FileRecord], document["files"])
        except FileNotFoundError:
            return {}
        except NotADirectoryError as error:
            raise UserError(f"{self.path} is not a folder", "choose another --run-dir") from error
        except PermissionError as error:
            raise UserError(f"{path} cannot be read", "make it readable") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not a manifest this version reads ({error})",
                "restore it, or start again in another --run-dir",
            ) from error


def _lock_of(stage: str) -> str:
    return f".{stage}.lock"


def _manifest_of(records: dict[str, FileRecord]) -> bytes:
    files = {name: vars(record) for name, record in sorted(records.items())}
    return json.dumps({"format": FORMAT, "files": files}, indent=1).encode() + b"\n"


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """As the manifest will give them back: tuples become lists."""
    return json.loads(json.dumps(dict(options)))
