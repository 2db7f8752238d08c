"""The files of --save and --compare: what is written, what is refused, and what a comparison reads."""

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from pretended_gpus import set_gpus
from recorded_calls import HeardProgress
from stub_runtimes import stubbed

from artifacts.run_directory import RunDirectory
from errors import UserError
from runtimes import timing
from workflow.benchmark import Outcome, benchmark_of, outcome_fields
from workflow.benchmark_file import write_document
from workflow.choice import session_from_options
from workflow.options import BenchmarkOptions, RunOptions, RuntimeOptions, TimedSubjectOptions

PACE: dict[tuple[str, str, str], Any] = {
    ("torch", "fp32", "cpu"): 4.0,
    ("ort", "fp32", "cpu"): 1.0,
    ("ort", "int8", "cpu"): 0.5,
}


@pytest.fixture(autouse=True)
def machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch)
    monkeypatch.setattr("machine.gpu.gpus", list)
    monkeypatch.setattr("machine.cpu.available_threads", lambda: 1)
    monkeypatch.setattr(timing, "ROUNDS", 2)


def outcome_of(run: RunDirectory, options: BenchmarkOptions) -> Outcome:
    session = session_from_options(RunOptions(run_dir=run.path), HeardProgress())
    return benchmark_of(session, TimedSubjectOptions(["ort"]), None, RuntimeOptions(), options)


def place_for(full: Path) -> Any:
    """A `TemporaryFile` for which one folder below `full` has no space."""

    def opened(dir: Path) -> Any:
        if dir == full / "full":
            raise OSError(28, "No space left on device")
        return TemporaryFile(dir=dir)

    return opened


def test_disk_that_fills_up_while_measuring_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workflow.benchmark_file.write_atomically", full)
    with pytest.raises(UserError, match=r"new.json cannot be written \(No space"):
        write_document(tmp_path / "new.json", {})


def test_document_is_saved_and_compared(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stubbed(monkeypatch, PACE)
    file = tmp_path / "old.json"
    saved = outcome_of(preact_run, BenchmarkOptions(batch=[1, 2], seconds=0.01, save=file))
    assert saved.changes is None
    document = json.loads(file.read_text())
    assert document == saved.document
    assert set(document) == {
        *("format", "written", "machine", "versions", "network", "options", "rows"),
    }
    assert document["options"] == {
        "threads": 1,
        "cuda_graphs": True,
        "seconds": 0.01,
        "batches": [1, 2],
    }
    assert document["network"] == {"variant": "preact", "depth": 8, "block": "basic", "classes": 10}
    stubbed(monkeypatch, PACE | {("ort", "int8", "cpu"): 0.6, ("ort", "fp32", "cpu"): 0.5})
    later = outcome_of(preact_run, BenchmarkOptions(batch=[2, 4], seconds=0.02, compare=file))
    changes = later.changes
    assert changes is not None
    assert [(one.precision, one.batch) for one in changes.regressions] == [("int8", 2)]
    assert [(one.precision, one.batch) for one in changes.improvements] == [("fp32", 2)]
    assert changes.missing_now == ("ort fp32 on cpu, batch 1", "ort int8 on cpu, batch 1")
    assert changes.missing_before == ("ort fp32 on cpu, batch 4", "ort int8 on cpu, batch 4")
    assert later.exit_status == 1
    assert outcome_fields(later)["changes"]["regressions"][0]["now"] == pytest.approx(4 / 0.6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": "nowhere/new.json"}, "--save .* is no place for a file"),
        ({"save": "."}, "--save .* is no place for a file"),
        ({"compare": "missing.json"}, "is not a file that `benchmark --save` wrote"),
        ({"compare": "list.json"}, "is not a file that `benchmark --save` wrote"),
        ({"compare": "format.json"}, r"its format is 99, not 1"),
        ({"save": "full/new.json"}, "--save .* cannot be written"),
        ({"compare": "half.json"}, "it has no machine"),
        ({"compare": "words.json"}, "its machine is no object"),
        ({"compare": "bare.json"}, "a row has no engine"),
        ({"compare": "number.json"}, "is not a file that `benchmark --save` wrote"),
        ({"compare": "other.json"}, r"other.json is of other network \(preact 110 basic 10\)"),
    ],
)
def test_files_are_looked_at_before_anything_is_measured(
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: dict[str, str],
    message: str,
) -> None:
    stubs = stubbed(monkeypatch, PACE)
    document = {**outcome_of(preact_run, BenchmarkOptions(batch=[1], seconds=0.01)).document}
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "format.json").write_text('{"format": 99}')
    (tmp_path / "half.json").write_text('{"format": 1}')
    (tmp_path / "words.json").write_text(json.dumps({**document, "machine": "mine"}))
    (tmp_path / "bare.json").write_text(json.dumps({**document, "rows": [{"status": "measured"}]}))
    (tmp_path / "number.json").write_text(json.dumps({**document, "rows": [1]}))
    (tmp_path / "full").mkdir()
    monkeypatch.setattr("workflow.benchmark_file.TemporaryFile", place_for(tmp_path))
    document["network"] = document["network"] | {"depth": 110}
    (tmp_path / "other.json").write_text(json.dumps(document))
    stubs.opened.clear()
    given: Any = {name: tmp_path / file for name, file in options.items()}
    with pytest.raises(UserError, match=message):
        outcome_of(preact_run, BenchmarkOptions(**given))
    assert stubs.opened == []
