import errno
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import artifacts.versions
from artifacts.files import environment_errors, sha256_of, write_atomically
from artifacts.names import MANIFEST
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from errors import UserError

ROOT = Path(__file__).parents[2]

WEIGHTS = Step("train", {"seed": 0}, (), ("weights", "log"))
GRAPH = Step("export", {"opset": 17, "shape": (1, 3)}, ("weights",), ("graph",), ("numpy",))

# Every test below that starts a second process sends it this first.
CHILD = """
import os, sys
from pathlib import Path
from artifacts.names import MANIFEST
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from errors import UserError
run = RunDirectory(Path(sys.argv[1]))
"""


def publish(run: RunDirectory, step: Step, content: str = "first") -> None:
    with run.writing(step) as folder:
        for name in step.outputs:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{name} {content}")


def snapshot(path: Path) -> dict[str, bytes | None]:
    """Everything below `path` but the lock; None for folders."""
    return {
        str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None
        for entry in path.rglob("*")
        if entry.name != ".lock"
    }


def child(code: str, path: Path, **options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-B", "-c", CHILD + code, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def made(tmp_path: Path) -> RunDirectory:
    """A run with two steps done: WEIGHTS, and GRAPH from it."""
    run = RunDirectory(tmp_path / "run")
    publish(run, WEIGHTS)
    publish(run, GRAPH)
    return run


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
    publish(other, Step("bench", {}, (), ("benchmark",)))
    assert {"parity", "benchmark", "graph"} <= set(RunDirectory(made.path).recorded())


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"opset": 18, "shape": (1, 3)}},
        {"options": {"opset": 17}},
        {"options": {"opset": 17, "shape": (1, 3), "more": None}},
        {"stage": "calibrate"},
        {"inputs": ("weights", "log")},
        {"inputs": ()},
        {"inputs": ("never made",)},
        {"outputs": ("graph", "never made")},
        {"packages": ()},
        {"packages": ("numpy", "onnx")},
    ],
    ids=str,
)
def test_a_changed_step_is_not_current(made: RunDirectory, change: dict[str, object]) -> None:
    assert made.is_current(GRAPH)
    assert not made.is_current(replace(GRAPH, **change))


@pytest.mark.parametrize("name", ["weights", "graph"])
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_text("other"), lambda path: path.write_text("")],
    ids=["removed", "changed", "emptied"],
)
def test_a_damaged_input_or_output_is_not_current(
    made: RunDirectory, name: str, damage: Callable[[Path], object]
) -> None:
    damage(made.path / name)
    assert not made.is_intact(name)
    assert not made.is_current(GRAPH)
    assert not RunDirectory(made.path).is_current(GRAPH)


def test_an_input_made_anew_with_other_content_is_not_current(made: RunDirectory) -> None:
    publish(made, WEIGHTS, "second")
    assert made.is_current(WEIGHTS)
    assert not made.is_current(GRAPH)


def test_an_input_made_anew_with_the_same_content_is_current(made: RunDirectory) -> None:
    publish(made, WEIGHTS)
    assert made.is_current(GRAPH)


def test_a_file_is_fresh_while_the_recorded_inputs_are_those_it_was_made_from(made: RunDirectory) -> None:
    assert made.is_fresh("weights")
    assert made.is_fresh("graph")
    assert not made.is_fresh("never made")
    publish(made, WEIGHTS)
    assert made.is_fresh("graph"), "made anew with the same content"
    publish(made, WEIGHTS, "second")
    assert made.is_fresh("weights")
    assert not made.is_fresh("graph")
    publish(made, GRAPH)
    assert made.is_fresh("graph")
    made.discard("weights")
    assert not made.is_fresh("graph")


def test_a_new_version_of_a_package_is_not_current(
    made: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts.versions, "version_of", lambda package: "99.0")
    assert not made.is_current(GRAPH)
    assert made.is_current(WEIGHTS), "training names no packages"


def test_a_package_that_is_not_installed_has_no_version(tmp_path: Path) -> None:
    step = replace(WEIGHTS, packages=("no-such-distribution",))
    run = RunDirectory(tmp_path)
    publish(run, step)
    assert version_of("no-such-distribution") is None
    assert run.record("weights").versions == {}
    assert run.is_current(step)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None)
@given(options=st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_any_json_options_are_current_when_read_back(options: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        step = replace(WEIGHTS, options=options)
        publish(RunDirectory(Path(folder)), step)
        assert RunDirectory(Path(folder)).is_current(step)
        assert not RunDirectory(Path(folder)).is_current(replace(step, options={**options, "longer key": 1}))


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


@pytest.mark.parametrize("name", ["weights", "never made"])
def test_a_bad_input_is_refused_before_the_body_runs(made: RunDirectory, name: str) -> None:
    (made.path / "weights").write_text("other")
    before = snapshot(made.path)
    with pytest.raises(UserError, match=name), made.writing(replace(GRAPH, inputs=(name,))):
        pytest.fail("the body ran")
    assert snapshot(made.path) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_a_body_that_raises_changes_nothing(made: RunDirectory, error: type[BaseException]) -> None:
    before = snapshot(made.path)
    with pytest.raises(error), made.writing(replace(GRAPH, options={})) as folder:
        (folder / "graph").write_text("half-wr")
        raise error
    assert snapshot(made.path) == before
    assert made.is_current(GRAPH)
    publish(made, GRAPH)  # the lock was given back


def test_a_body_that_forgets_an_output_changes_nothing(made: RunDirectory) -> None:
    before = snapshot(made.path)
    with pytest.raises(FileNotFoundError), made.writing(replace(WEIGHTS, options={})) as folder:
        (folder / "weights").write_text("second")
    assert snapshot(made.path) == before
    assert made.is_current(WEIGHTS)


def test_the_body_starts_with_an_empty_folder(made: RunDirectory) -> None:
    leftover = made.path / ".partial-export"
    leftover.mkdir()
    (leftover / "graph").write_text("of a run that was killed")
    with made.writing(GRAPH) as folder:
        assert list(folder.iterdir()) == []
        (folder / "graph").write_text("new")
    assert not leftover.exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_crash_between_the_files_and_the_manifest_is_noticed(made: RunDirectory, moved: int) -> None:
    # os._exit runs no `finally`: what a power cut leaves.
    code = f"""
move, moved = Path.replace, []
def replace(source, target):
    if len(moved) == {moved}:
        os._exit(9)
    moved.append(target)
    return move(source, target)
Path.replace = replace
with run.writing(Step("train", {{"seed": 1}}, (), ("weights", "log"))) as folder:
    (folder / "weights").write_text("weights second")
    (folder / "log").write_text("log second")
"""
    assert child(code, made.path).wait(30) == 9
    run = RunDirectory(made.path)
    assert not run.is_current(replace(WEIGHTS, options={"seed": 1}))
    for name, is_old in {"weights": moved < 1, "log": moved < 2}.items():
        assert run.is_intact(name) == is_old
        if not is_old:
            with pytest.raises(UserError, match="sha256 differs"):
                run.verified(name)
    publish(run, WEIGHTS)
    assert run.is_current(WEIGHTS)
    assert run.is_current(GRAPH)
    assert not list(run.path.glob(".partial*"))


def test_a_lock_held_by_another_process_is_a_user_error(made: RunDirectory) -> None:
    code = """
with run.writing(Step("bench", {}, (), ("benchmark",))) as folder:
    print("held", flush=True)
    sys.stdin.readline()
    (folder / "benchmark").write_text("done")
"""
    other = child(code, made.path)
    assert other.stdout.readline() == "held\n"
    with (
        pytest.raises(UserError, match=r"another skipfold process .*: wait for it"),
        made.writing(GRAPH),
    ):
        pytest.fail("the body ran")
    other.communicate("go on\n", timeout=30)
    assert other.returncode == 0, "the process that held the lock was disturbed"
    publish(made, GRAPH)
    assert RunDirectory(made.path).is_intact("benchmark")


def test_a_lock_left_by_a_killed_process_does_not_block(made: RunDirectory) -> None:
    killed = child("with run.writing(Step('bench', {}, (), ('benchmark',))):\n    os._exit(9)", made.path)
    assert killed.wait(30) == 9
    publish(made, GRAPH)


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


@pytest.mark.parametrize(
    ("size", "options"),
    [(1 << 20, "{}"), (10, "{'long': 'x' * 100_000}")],
    ids=["stage output", "manifest"],
)
@pytest.mark.parametrize("begun", [True, False], ids=["existing run", "new run"])
def test_a_full_disk_is_one_line_and_changes_nothing(
    tmp_path: Path, begun: bool, size: int, options: str
) -> None:
    pytest.importorskip("resource", reason="this system has no file size limit to stand for a full disk")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    if begun:
        publish(run, WEIGHTS)
    before = snapshot(run.path)
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with run.writing(Step("train", {options}, (), ("weights", "log"))) as folder:
        (folder / "log").write_text("second")
        (folder / "weights").write_bytes(bytes({size}))
except UserError as error:
    print(error)
"""
    out, _ = child(code, run.path).communicate(timeout=30)
    assert out.count("\n") == 1
    assert out.startswith("cannot write ")
    assert "nothing was changed: raise the file size limit" in out
    assert snapshot(run.path) == before
    assert RunDirectory(run.path).is_current(WEIGHTS) == begun


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "--run-dir"),
        (errno.EROFS, "--run-dir"),
        (errno.ENOTDIR, "--run-dir"),
    ],
    ids=errno.errorcode.get,
)
def test_errors_of_the_environment_name_the_place_and_the_fix(tmp_path: Path, code: int, fix: str) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as error, environment_errors(tmp_path):
        raise OSError(code, "as the system says it")
    assert "as the system says it" in error.value.problem
    assert fix in error.value.fix


def test_the_file_of_an_environment_error_is_named_rather_than_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the-file"), environment_errors(tmp_path):
        raise OSError(errno.EACCES, "denied", "the-file")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no"), OSError("plain"), ValueError()])
def test_errors_that_are_bugs_keep_their_type(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, environment_errors(tmp_path):
        raise error
    assert caught.value is error


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


def test_write_atomically_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"first")
    write_atomically(tmp_path / "file", b"second")
    assert snapshot(tmp_path) == {"file": b"second"}


def test_write_atomically_keeps_the_old_content_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomically(tmp_path / "file", b"first")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", b"second")
    assert snapshot(tmp_path) == {"file": b"first"}


@given(content=st.binary(max_size=100))
def test_sha256_of_a_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_a_stage_that_waits_goes_on_when_the_other_has_left(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    order: list[str] = []

    def enter() -> None:
        with second.alone("build", wait=True):
            second.reread()
            order.append(f"second, which sees {second.recorded()}")

    thread = threading.Thread(target=enter)
    assert not second.is_under_way("build")
    with first.alone("build"):
        assert second.is_under_way("build") and not second.is_under_way("train")
        thread.start()
        thread.join(0.2)
        publish(first, Step("build", {}, (), ("engine",)))
        order.append("first")
    thread.join(30)
    assert order == ["first", "second, which sees ['engine']"]
    assert not first.is_under_way("build")
