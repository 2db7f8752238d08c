"""Fixtures shared by all tests: the digits, tiny networks through every stage, and the command line.

The networks have depth 8, one block a stage, and are trained for a few seconds; `trained_runs` makes
them once a session, `run` gives a test its own copy.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cli
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, quantized_from_graph
from data.dataset import Dataset
from data.load import dataset_from_name
from export.graph_from_checkpoint import NARROWED, graph_from_checkpoint, narrowed_from_graph
from models.config import VARIANTS, resnet_config
from training.loop import checkpoint_from_dataset
from training.recipes import recipe_from_name

# Two threads gain nothing on networks this small, and spin against whatever else the machine is doing. The
# commands that tests start inherit the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

TINY_DEPTH = 8
TINY_EPOCHS = 4

CIFAR10_DIR = Path(os.environ.get("SKIPFOLD_CIFAR10_DIR", Path(__file__).parents[2] / "shared/data/cifar10"))

needs_cifar10 = pytest.mark.skipif(
    not CIFAR10_DIR.is_dir(), reason="no CIFAR-10 parquet files (SKIPFOLD_CIFAR10_DIR names their folder)"
)


@dataclass(frozen=True)
class Outcome:
    """What a command line left: exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON on standard output."""
        return json.loads(self.out)


@pytest.fixture(autouse=True, scope="session")
def runtimes_of_one_thread() -> Iterator[None]:
    """A runtime that is opened without a number of threads gets one, for the same reason as above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtimes.runtime.available_threads", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def pytorch_of_one_thread_again() -> Iterator[None]:
    """A PyTorch runtime sets the threads of the whole process, and the next test is not to have them."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return dataset_from_name("digits")


@pytest.fixture(scope="session")
def trained_runs(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run directory a variant: trained, exported, calibrated. Not to be changed."""
    recipe = replace(recipe_from_name("digits", 20), epochs=TINY_EPOCHS)
    paths = {}
    for variant in VARIANTS:
        run = RunDirectory(tmp_path_factory.mktemp("runs") / f"digits-{variant}-{TINY_DEPTH}")
        checkpoint_from_dataset(run, resnet_config(variant, TINY_DEPTH), digits, recipe)
        graph_from_checkpoint(run)
        for precision in NARROWED:
            narrowed_from_graph(run, precision)
        quantized_from_graph(run, digits, Plan())
        paths[variant] = run.path
    return paths


@pytest.fixture(params=VARIANTS)
def run(request: pytest.FixtureRequest, trained_runs: dict[str, Path], tmp_path: Path) -> RunDirectory:
    """A test's own copy of a run, of each variant in turn."""
    return _copied(trained_runs[request.param], tmp_path)


@pytest.fixture
def preact_run(trained_runs: dict[str, Path], tmp_path: Path) -> RunDirectory:
    """A test's own copy of the pre-activation run."""
    return _copied(trained_runs["preact"], tmp_path)


def _copied(source: Path, tmp_path: Path) -> RunDirectory:
    """Under `runs/` of the test's folder, where the command line finds it by its options."""
    return RunDirectory(Path(shutil.copytree(source, tmp_path / "runs" / source.name)))


@pytest.fixture
def skipfold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run a command line in this process, in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr("sys.argv", ["skipfold", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        out, err = capfd.readouterr()
        return Outcome(int(exit_info.value.code or 0), out, err)

    return call
