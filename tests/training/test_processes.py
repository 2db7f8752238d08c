"""Real processes under torchrun, on the CPU through gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from errors import UserError
from training.processes import Processes, process_group, processes_in_environment
from training.state import STATE_LOG

ROOT = Path(__file__).parents[2]
TRAIN = ("cli.py", "train", "--depth", "8", "--arithmetic", "fp32")
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# For a machine that is busy with other things.
PATIENCE_S = 240


def start(*command: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]


def wait_for_epochs(run: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        path = run / STATE_LOG
        if path.is_file() and len(path.read_text().splitlines()) >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"no epoch was finished: {process.communicate()[1]}")


def rank_of(pid: int) -> str | None:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((v.removeprefix(b"RANK=").decode() for v in variables if v.startswith(b"RANK=")), None)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
    # BN's statistics are those of half a batch, so the curves agree but are not the same.
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=0.25, abs=0.1)
    assert one[0]["loss"] != two[0]["loss"]
    runs = tmp_path / "one", in_two_processes
    facts = [json.loads((run / "checkpoint.json").read_text())["training"] for run in runs]
    assert [fact["processes"] for fact in facts] == [1, 2]
    accuracies = [fact["test_accuracy"] for fact in facts]
    assert min(accuracies) > 90
    assert accuracies[0] == pytest.approx(accuracies[1], abs=4)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to find a rank's process in")
def test_a_lost_process_ends_the_run_with_a_word_and_it_can_be_continued(
    in_two_processes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    training = (*TRAIN, "--epochs", "4", "--run-dir", run)
    launcher = start(*TWO, *training)
    wait_for_epochs(run, 1, launcher)
    (second,) = [pid for pid in children(launcher.pid) if rank_of(pid) == "1"]
    os.kill(second, signal.SIGKILL)
    status, _, err = finish(launcher)
    assert status != 0
    assert "error: process 0 of 2 was stopped because another one was lost" in err
    assert "run the same command again" in err
    status, out, err = finish(start(*TWO, *training))
    assert status == 0, err
    assert "epoch 4/4" in out and "epoch 1/4" not in out, "it went on"
    weights = [path / "checkpoint.safetensors" for path in (run, in_two_processes)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_one_process_after_kill_9_ends_with_the_same_weights(tmp_path: Path) -> None:
    training = (sys.executable, *TRAIN, "--epochs", "3", "--run-dir")
    process = start(*training, tmp_path / "killed")
    wait_for_epochs(tmp_path / "killed", 1, process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    for name in ("killed", "whole"):
        status, out, err = finish(start(*training, tmp_path / name))
        assert status == 0, err
        assert "epoch 3/3" in out and ("epoch 1/3" in out) == (name == "whole"), "one of them went on"
    weights = [tmp_path / name / "checkpoint.safetensors" for name in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    # Set by job schedulers, for jobs of their own.
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
