"""Writing into a run: a stage that fails, is killed or meets a full disk changes nothing."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import GRAPH, WEIGHTS, made_run, publish, snapshot

from artifacts.run_directory import RunDirectory
from errors import UserError

ROOT = Path(__file__).parents[2]
# The second process of a test begins with these lines.
CHILD = """
import os, sys
from pathlib import Path
from artifacts.names import MANIFEST
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from errors import UserError
run = RunDirectory(Path(sys.argv[1]))
"""


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
    return made_run(tmp_path / "run")


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
    publish(made, GRAPH)  # the former body gave the lock back


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
    # os._exit runs no `finally`, so the run is left as after a power cut.
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
with run.writing(Step("benchmark", {}, (), ("benchmark",))) as folder:
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
    killed = child("with run.writing(Step('benchmark', {}, (), ('benchmark',))):\n    os._exit(9)", made.path)
    assert killed.wait(30) == 9
    publish(made, GRAPH)


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


def test_a_stage_that_waits_goes_on_when_the_other_process_has_left(tmp_path: Path) -> None:
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
        publish(first, WEIGHTS)
        order.append("first")
    thread.join(30)
    assert order == ["first", f"second, which sees {sorted(WEIGHTS.outputs)}"]
    assert not first.is_under_way("build")
