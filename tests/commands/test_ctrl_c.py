"""Ctrl-C leaves the run as it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import (
    DEPTH,
    ROOT,
    Skipfold,
    needs_rtx,
    snapshot,
)
from conftest import TINY_DEPTH

from artifacts.names import (
    CHECKPOINT,
    TRAINING_LOG,
)
from artifacts.run_directory import RunDirectory
from commands.screen import Screen
from models.checkpoint import card_in
from progress import Description
from training.state import STATE_LOG


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", *DEPTH, "--epochs", 2, "--force"),
        ("calibrate", *DEPTH, "--force"),
        pytest.param(("build", *DEPTH, "--precision", "fp32"), marks=needs_rtx),
        ("verify", *DEPTH, "--engine", "ort"),
        ("benchmark", *DEPTH, "--engine", "ort"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_ctrl_c_leaves_the_run_as_it_was(
    skipfold: Skipfold,
    preact_run: RunDirectory,
    arguments: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = snapshot(preact_run.path)
    with monkeypatch.context() as patch:
        patch.setattr(Screen, "progress", interrupt)
        outcome = skipfold(*arguments)
    assert outcome.status == 130
    assert "interrupted" in outcome.err and "Traceback" not in outcome.err
    assert snapshot(preact_run.path) == before


# The child says when it is in its second epoch, and waits there for the signal for as long as that takes.
TRAINS_UNTIL_CTRL_C = """
import pathlib, time, cli
from commands.screen import Screen
def progress(self, items, description, total=None):
    for item in items:
        yield item
        while callable(description) and description().startswith("epoch 2/"):
            pathlib.Path("waiting").touch()
            time.sleep(0.05)
Screen.progress = progress
cli.main()
"""


def test_training_goes_on_after_a_real_ctrl_c(skipfold: Skipfold, tmp_path: Path) -> None:
    options = ("train", *DEPTH, "--epochs", 3, "--quiet")
    run = tmp_path / "runs" / f"digits-preact-{TINY_DEPTH}"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINS_UNTIL_CTRL_C, *map(str, options)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        # A test that itself runs in the background ignores Ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "waiting").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(600) == 130
    card = card_in(RunDirectory(run))
    assert card.is_interrupted and card.training["epochs_done"] == 1
    assert skipfold(*options).status == 0
    straight = tmp_path / "straight"
    assert skipfold(*options, "--run-dir", straight).status == 0
    assert (run / CHECKPOINT).read_bytes() == (straight / CHECKPOINT).read_bytes()


def test_an_interrupted_retraining_leaves_the_finished_one(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain = ("train", *DEPTH, "--epochs", 2, "--seed", 1, "--force")
    before = {name: (preact_run.path / name).read_bytes() for name in (CHECKPOINT, TRAINING_LOG)}
    progress = Screen.progress

    def interrupted_in_epoch_2(self: Screen, items: object, description: Description, total: int) -> object:
        if callable(description) and description().startswith("epoch 2"):
            raise KeyboardInterrupt
        return progress(self, items, description, total)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "progress", interrupted_in_epoch_2)
        assert skipfold(*retrain).status == 130
    assert {name: (preact_run.path / name).read_bytes() for name in before} == before
    assert (preact_run.path / STATE_LOG).read_text().count("\n") == 1
    assert skipfold(*retrain).status == 0
    assert not (preact_run.path / STATE_LOG).exists()
    assert (preact_run.path / TRAINING_LOG).read_text().count("\n") == 2
