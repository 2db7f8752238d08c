"""Trainings in real processes, which torchrun starts and which communicate on the CPU through gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from errors import UserError
from training.processes import Processes, process_group, processes_in_environment

ROOT = Path(__file__).parents[2]
TRAIN = ("cli.py", "train", "--depth", "8", "--arithmetic", "fp32")
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# A training takes about ten seconds, and many times as long on a machine that is busy with other work.
PATIENCE_S = 240


def start(*command: object, victim: int | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "VICTIM": str(victim)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]


# Runs the command line, and kills the process of rank VICTIM with SIGKILL when two epochs are finished. All
# processes have then taken part in the second epoch, so that process 0 has written the state of the first.
KILLED_AFTER_TWO_EPOCHS = """
import os, runpy, signal
from training.loop import TrainingLoop

train_epoch = TrainingLoop.train_epoch


def train_epoch_or_die(loop, *arguments):
    if loop.finished_epochs == 2 and os.environ.get("RANK", "0") == os.environ["VICTIM"]:
        os.kill(os.getpid(), signal.SIGKILL)
    train_epoch(loop, *arguments)


TrainingLoop.train_epoch = train_epoch_or_die
runpy.run_path("cli.py", run_name="__main__")
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The command line in a script that kills one of its processes."""
    path = tmp_path / "killed.py"
    path.write_text(KILLED_AFTER_TWO_EPOCHS)
    return path


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("processes") / "two"
    status, _, err = finish(start(*TWO, *TRAIN, "--epochs", "4", "--run-dir", run))
    assert status == 0, err
    return run


def test_nothing_is_trained_again_in_two_processes(in_two_processes: Path) -> None:
    before = (in_two_processes / "checkpoint.safetensors").stat().st_mtime_ns
    status, _, err = finish(start(*TWO, *TRAIN, "--epochs", "4", "--run-dir", in_two_processes))
    assert status == 0, err
    assert (in_two_processes / "checkpoint.safetensors").stat().st_mtime_ns == before


def test_two_processes_learn_as_one(in_two_processes: Path, tmp_path: Path) -> None:
    status, _, err = finish(start(sys.executable, *TRAIN, "--epochs", "4", "--run-dir", tmp_path / "one"))
    assert status == 0, err
    one, two = log(tmp_path / "one"), log(in_two_processes)
    # Each process uses the BN statistics of half a batch, so the curves are similar and not the same.
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=0.25, abs=0.1)
    assert one[0]["loss"] != two[0]["loss"]
    runs = tmp_path / "one", in_two_processes
    facts = [json.loads((run / "checkpoint.json").read_text())["training"] for run in runs]
    assert [fact["processes"] for fact in facts] == [1, 2]
    accuracies = [fact["test_accuracy"] for fact in facts]
    assert min(accuracies) > 90
    assert accuracies[0] == pytest.approx(accuracies[1], abs=4)


def test_a_lost_process_ends_the_run_with_a_word_and_it_can_be_continued(
    in_two_processes: Path, killed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    training = (*TRAIN, "--epochs", "4", "--run-dir", run)
    status, _, err = finish(start(*TWO, killed, *training[1:], victim=1))
    assert status != 0
    assert "error: process 0 of 2 was stopped because another one was lost" in err
    assert "run the same command again" in err
    status, out, err = finish(start(*TWO, *training))
    assert status == 0, err
    assert "epoch 4/4" in out and "epoch 1/4" not in out, "the run was continued"
    weights = [path / "checkpoint.safetensors" for path in (run, in_two_processes)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_one_process_after_kill_9_ends_with_the_same_weights(killed: Path, tmp_path: Path) -> None:
    training = (*TRAIN, "--epochs", "3", "--run-dir")
    status, _, err = finish(start(sys.executable, killed, *training[1:], tmp_path / "killed", victim=0))
    assert status == -signal.SIGKILL, err
    for name in ("killed", "whole"):
        status, out, err = finish(start(sys.executable, *training, tmp_path / name))
        assert status == 0, err
        assert "epoch 3/3" in out and ("epoch 1/3" in out) == (name == "whole"), "one of them was continued"
    weights = [tmp_path / name / "checkpoint.safetensors" for name in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    # Job schedulers set RANK for their jobs, which have nothing to do with torchrun.
    monkeypatch.setenv("RANK", "3")
    assert processes_in_environment() == Processes(0, 1, 0)
    with process_group("cpu") as processes:
        assert processes.is_first
        network = torch.nn.Linear(2, 2)
        assert processes.parallel(network) is network
        assert processes.agree(7, torch.device("cpu")) == 7


@pytest.mark.parametrize(
    "variables", [{"RANK": "0"}, {"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}]
)
def test_variables_that_torchrun_does_not_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TORCHELASTIC_RUN_ID": "none"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun --nproc-per-node 2"):
        processes_in_environment()
