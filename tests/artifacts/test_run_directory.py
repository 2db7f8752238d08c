"""What a run directory records, hands out and discards."""

import hashlib
import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from small_runs import GRAPH, WEIGHTS, made_run, publish, snapshot

from artifacts.names import MANIFEST
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from artifacts.stages import STAGES
from errors import UserError


@pytest.fixture
def made(tmp_path: Path) -> RunDirectory:
    return made_run(tmp_path / "run")


def test_nothing_is_made_before_something_is_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert "weights" not in run
    assert run.recorded() == []
    assert not run.is_current(WEIGHTS)
    assert not run.path.exists()


def test_published_files_are_in_place_and_nothing_else(made: RunDirectory) -> None:
    assert snapshot(made.path).keys() == {"weights", "log", "graph", MANIFEST}
    assert made.verified("graph").read_text() == "graph first"


def test_the_manifest_says_what_made_each_file(made: RunDirectory) -> None:
    document = json.loads((made.path / MANIFEST).read_text())
    assert list(document["files"]) == ["graph", "log", "weights"]
    graph = document["files"]["graph"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", graph.pop("written"))
    assert graph == {
        "sha256": hashlib.sha256(b"graph first").hexdigest(),
        "size": len("graph first"),
        "stage": "export",
        "options": {"opset": 17, "shape": [1, 3]},
        "inputs": {"weights": hashlib.sha256(b"weights first").hexdigest()},
        "versions": {"numpy": metadata.version("numpy")},
        "revision": STAGES["export"].revision,
    }


def test_another_process_reads_back_the_same_records(made: RunDirectory) -> None:
    again = RunDirectory(made.path)
    assert again.recorded() == ["graph", "log", "weights"]
    assert again.recorded("w") == ["weights"]
    assert again.record("graph") == made.record("graph")
    assert again.is_current(WEIGHTS)
    assert again.is_current(GRAPH)


def test_outputs_in_a_subfolder(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    publish(run, Step("build", {}, (), ("engines/fp32.engine",)))
    assert run.verified("engines/fp32.engine") == tmp_path / "engines/fp32.engine"


def test_two_objects_on_one_directory_keep_each_others_records(made: RunDirectory) -> None:
    other = RunDirectory(made.path)
    publish(made, Step("verify", {}, (), ("parity",)))
    publish(other, Step("benchmark", {}, (), ("benchmark",)))
    assert {"parity", "benchmark", "graph"} <= set(RunDirectory(made.path).recorded())


@pytest.mark.parametrize(
    ("damage", "problem", "fix"),
    [
        (Path.unlink, "is gone", "rerun `export --force`"),
        (lambda path: path.write_text("graph First"), "its sha256 differs", "rerun `export --force`"),
    ],
    ids=["missing", "changed"],
)
def test_a_damaged_file_is_not_handed_out(
    made: RunDirectory, damage: Callable[[Path], object], problem: str, fix: str
) -> None:
    damage(made.path / "graph")
    with pytest.raises(UserError) as error:
        made.verified("graph")
    assert problem in error.value.problem
    assert str(made.path / "graph") in error.value.problem
    assert fix in error.value.fix


def test_a_file_that_no_stage_recorded_is_not_handed_out(made: RunDirectory) -> None:
    (made.path / "stray").write_text("from elsewhere")
    with pytest.raises(UserError, match="stray has not been made: run the stage that writes it first"):
        made.verified("stray")
    assert not made.is_intact("stray")


@pytest.mark.parametrize("below", ["", "run", "runs/run"])
def test_a_run_directory_at_or_below_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder: choose another --run-dir"):
        RunDirectory(tmp_path / "file" / below)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"files": {}}',
        b'{"format": 1, "files": {}}',
        b'{"format": 2}',
        b'{"format": 2, "files": []}',
        b'{"format": 2, "files": {"graph": {}}}',
        b'{"format": 2, "files": {"graph": null}}',
    ],
)
def test_a_corrupted_manifest_is_a_user_error(made: RunDirectory, content: bytes) -> None:
    (made.path / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match="is not a manifest this version reads") as error:
        RunDirectory(made.path)
    assert "--run-dir" in error.value.fix


def test_a_truncated_manifest_is_a_user_error(made: RunDirectory) -> None:
    manifest = made.path / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(UserError, match="is not a manifest"):
        RunDirectory(made.path)


def test_discard_removes_the_file_and_its_record(made: RunDirectory) -> None:
    made.discard("log")
    for run in (made, RunDirectory(made.path)):
        assert run.recorded() == ["graph", "weights"]
        assert not run.is_current(WEIGHTS)
        assert run.is_current(GRAPH)
    assert not (made.path / "log").exists()


def test_discard_of_what_is_not_recorded_touches_nothing(made: RunDirectory) -> None:
    (made.path / "stray").write_text("from elsewhere")
    before = snapshot(made.path)
    made.discard("stray")
    made.discard("never made")
    assert snapshot(made.path) == before


def test_discard_of_a_recorded_file_that_is_gone(made: RunDirectory) -> None:
    (made.path / "log").unlink()
    made.discard("log")
    assert "log" not in RunDirectory(made.path)
