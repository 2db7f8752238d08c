"""Trainings in real processes, which torchrun starts and which communicate on the CPU through gloo."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from data.dataset import Dataset
from data.load import dataset_from_name
from errors import UserError
from models.config import resnet_config
from models.resnet import initialised
from training.feed import Feed
from training.processes import Processes, process_group, processes_in_environment
from training.recipes import recipe_from_name

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


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one process, which no test may change."""
    run = tmp_path_factory.mktemp("processes") / "one"
    status, _, err = finish(start(sys.executable, *TRAIN, "--epochs", "4", "--run-dir", run))
    assert status == 0, err
    return run


def test_nothing_is_trained_again_in_two_processes(in_two_processes: Path) -> None:
    before = (in_two_processes / "checkpoint.safetensors").stat().st_mtime_ns
    status, _, err = finish(start(*TWO, *TRAIN, "--epochs", "4", "--run-dir", in_two_processes))
    assert status == 0, err
    assert (in_two_processes / "checkpoint.safetensors").stat().st_mtime_ns == before


def test_two_processes_learn_as_one(in_one_process: Path, in_two_processes: Path) -> None:
    runs = in_one_process, in_two_processes
    # Each process uses the BN statistics of half a batch, so that the curves are not the same.
    assert log(runs[0])[0]["loss"] != log(runs[1])[0]["loss"]
    facts = [json.loads((run / "checkpoint.json").read_text())["training"] for run in runs]
    assert [fact["processes"] for fact in facts] == [1, 2]
    assert min(fact["test_accuracy"] for fact in facts) > 90, "guessing would give 10"


@pytest.fixture
def few_pictures(digits: Dataset, tmp_path: Path) -> Path:
    """A folder with 14 digits of each class, of which 100 are trained on in four steps."""
    for label in range(10):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for index in np.flatnonzero(digits.train.labels == label)[:14]:
            picture = Image.fromarray(digits.train.images[index].transpose(1, 2, 0))
            picture.save(tmp_path / "pictures" / str(label) / f"{index}.png")
    return tmp_path / "pictures"


def taught_by_parts(dataset: Dataset, count: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Train for an epoch as `count` processes do, but compute their parts of a batch one after the other.

    Returns:
        the mean loss, and the state dict after the epoch.
    """
    recipe = replace(recipe_from_name("digits", 8), epochs=1)
    model = initialised(resnet_config("preact", 8), seed=0).train()
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
    )
    feeds = [Feed(dataset, recipe, torch.device("cpu"), Processes(rank, count)) for rank in range(count)]
    batches = list(zip(*(feed.epoch(torch.Generator().manual_seed(0)) for feed in feeds), strict=True))
    losses = []
    for step, parts in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step, len(batches))
        optimizer.zero_grad()
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        # Process 0 comes last, because the running statistics of BN are those that it computes.
        for part in reversed(parts):
            model.load_state_dict(before, strict=False)
            loss = cross_entropy(model(part.images), part.labels) * part.share / count
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
    return sum(losses) / len(batches), model.state_dict()


@pytest.mark.parametrize("count", [1, 2])
def test_processes_learn_what_their_parts_teach_one_process(
    few_pictures: Path, tmp_path: Path, count: int
) -> None:
    """Four steps are compared, because more steps would amplify rounding."""
    options = ("--recipe", "digits", "--epochs", "1", "--dataset", "imagefolder", "--data-dir", few_pictures)
    launcher = TWO if count == 2 else (sys.executable,)
    train = ("cli.py", "train", "--depth", "8", "--arithmetic", "fp32", *options)
    status, _, err = finish(start(*launcher, *train, "--run-dir", tmp_path / "run"))
    assert status == 0, err
    dataset = dataset_from_name("imagefolder", few_pictures)
    assert len(dataset.train) == 100
    loss, state = taught_by_parts(dataset, count)
    (line,) = log(tmp_path / "run")
    assert line["processes"] == count
    assert line["loss"] == pytest.approx(loss, rel=1e-4)
    trained = load_file(tmp_path / "run/checkpoint.safetensors")
    assert trained.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=1e-4, msg=name)


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


def test_one_process_after_kill_9_ends_with_the_same_weights(
    in_one_process: Path, killed: Path, tmp_path: Path
) -> None:
    training = (*TRAIN, "--epochs", "4", "--run-dir", tmp_path / "run")
    status, _, err = finish(start(sys.executable, killed, *training[1:], victim=0))
    assert status == -signal.SIGKILL, err
    status, out, err = finish(start(sys.executable, *training))
    assert status == 0, err
    assert "epoch 4/4" in out and "epoch 1/4" not in out, "the run was continued"
    weights = [path / "checkpoint.safetensors" for path in (tmp_path / "run", in_one_process)]
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
