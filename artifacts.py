"""The run directory: file names, manifest, hashes, atomic writes, up-to-date checks.

Every stage writes through `RunDirectory.writing`, which hands it an empty folder inside the run
directory and moves the files into place only when the stage has ended well. `manifest.json` then
records for each file its sha256, the stage, options and versions that made it and the sha256 of
what it was made from. Nothing is handed out for reading whose hash differs from that record.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from errors import UserError

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_CARD = "checkpoint.json"
BEST_CHECKPOINT = "checkpoint.best.safetensors"
BEST_CHECKPOINT_CARD = "checkpoint.best.json"
TRAINING_LOG = "training.jsonl"
MODEL = "model.onnx"
MODEL_FP16 = "model.fp16.onnx"
MODEL_BF16 = "model.bf16.onnx"
AUDIT = "audit.json"
MODEL_REPARAMETRIZED = "model.reparametrized.onnx"
MODEL_REPARAMETRIZED_BN = "model.reparametrized.bn.onnx"
REPARAMETRIZATION = "reparametrization.json"
RANGES = "ranges.json"
BLOCK_ERROR = "block_error.json"
SEARCH = "search.json"
MODEL_INT8_GPU = "model.int8.gpu.onnx"
MODEL_INT8_CPU = "model.int8.cpu.onnx"
MODEL_INT8_OPENVINO = "model.int8.openvino.onnx"
MODEL_FP8_GPU = "model.fp8.gpu.onnx"
ENGINES = "engines"
PARITY = "parity.json"
ACCURACY = "accuracy.json"
BENCHMARK = "benchmark.json"
REPORT = "report.html"
ANALYSIS = "analysis.json"
GRADIENT_PLOT = "gradient_norm.svg"
SKIP_PLOT = "skip_term.svg"
DEAD_PLOT = "dead_paths.svg"
ANALYSIS_FILES = (ANALYSIS, GRADIENT_PLOT, SKIP_PLOT, DEAD_PLOT)

FORMAT = 2
_LOCK = ".lock"
_PARTIAL = ".partial"

# What the machine's owner has to mend, as against a bug of ours.
_ENVIRONMENT_ERRORS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: "raise the file size limit (ulimit -f)",
    errno.EACCES: "make it writable, or choose another place with --run-dir",
    errno.EPERM: "make it writable, or choose another place with --run-dir",
    errno.EROFS: "choose a writable place with --run-dir",
    errno.ENOTDIR: "choose a place below a folder with --run-dir",
    errno.EEXIST: "choose a place that is no file with --run-dir",
}


@dataclass(frozen=True)
class Step:
    """One stage's work: what it reads, how, and what it writes.

    Attributes:
        stage: name of the command that does it.
        options: everything besides the inputs that decides the result, as JSON values.
        inputs: names of files in the run directory.
        outputs: names of files in the run directory.
        packages: distributions whose version decides the result; a new version makes the outputs
            stale. Training names none: an update of torch is no reason to throw weights away.
    """

    stage: str
    options: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileRecord:
    """What the manifest holds of one file."""

    sha256: str
    size: int
    stage: str
    options: dict[str, Any]
    inputs: dict[str, str]
    versions: dict[str, str]
    written: str


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
            raise UserError(f"{path} is gone", f"rerun `{record.stage} --force`")
        if sha256_of(path) != record.sha256:
            raise UserError(
                f"{path} is not the file that `{record.stage}` wrote (its sha256 differs)",
                f"restore it, or rerun `{record.stage} --force`",
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
        """Whether a file is recorded and was made from the files that are recorded now."""
        return name in self._records and all(
            source in self._records and self._records[source].sha256 == sha256
            for source, sha256 in self._records[name].inputs.items()
        )

    def is_current(self, step: Step) -> bool:
        """Whether all outputs are intact and were made by just this step from just these inputs."""
        wanted = self._expected(step)
        return wanted is not None and all(
            self.is_intact(name)
            and self._records[name].stage == step.stage
            and self._records[name].options == wanted["options"]
            and self._records[name].inputs == wanted["inputs"]
            and self._records[name].versions == wanted["versions"]
            for name in step.outputs
        )

    @contextmanager
    def alone(self, stage: str) -> Iterator[None]:
        """Keep a second process out of a stage that writes more than once.

        Raises:
            UserError: another process is in this stage; the folder cannot be written.
        """
        with self._locked(f".{stage}.lock", f"another `{stage}` is under way in {self.path}"):
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
        partial = self.path / f"{_PARTIAL}-{step.stage}"
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
                versions=_versions(step.packages),
                written=written,
            )
        records = self._records | fresh
        # Written out before any file moves, so that a full disk is met while nothing has changed.
        manifest = partial / MANIFEST
        _write_flushed(manifest, _manifest_of(records))
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
            "versions": _versions(step.packages),
        }

    def _read_manifest(self) -> dict[str, FileRecord]:
        path = self.path / MANIFEST
        try:
            document = json.loads(path.read_text())
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}")
            return {name: FileRecord(**fields) for name, fields in document["files"].items()}
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


@contextmanager
def environment_errors(place: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        fix = _ENVIRONMENT_ERRORS.get(error.errno or 0)
        if fix is None:
            raise
        where = error.filename or place
        raise UserError(f"cannot write {where} ({error.strerror}); nothing was changed", fix) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it into place."""
    temporary = path.with_name(f"{_PARTIAL}-{path.name}")
    try:
        _write_flushed(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_of(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _manifest_of(records: dict[str, FileRecord]) -> bytes:
    files = {name: vars(record) for name, record in sorted(records.items())}
    return json.dumps({"format": FORMAT, "files": files}, indent=1).encode() + b"\n"


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: version for name in packages if (version := version_of(name)) is not None}


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """As the manifest will give them back: tuples become lists."""
    return json.loads(json.dumps(dict(options)))
