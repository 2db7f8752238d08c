"""Fixtures shared by all tests: the digits, tiny networks through every stage, and the command line.

The networks have depth 8, one block a stage, and are trained for a few seconds; `trained_runs` makes
them once a session, `run` gives a test its own copy.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser, chromium
from filelock import FileLock
from hypothesis import settings
from short_trainings import parted, trained

import cli
from artifacts.run_directory import RunDirectory
from bundling.document import BundleDocument
from bundling.onnxruntime_web import runtime_from_npm
from bundling.web_page import web_from_bundle
from bundling.writing import write_folder
from calibration.plan import Plan, quantized_from_graph
from data.dataset import Dataset, dataset_from_splits
from data.load import dataset_from_name
from errors import UserError
from export.graph_from_checkpoint import NARROWED, graph_from_checkpoint, narrowed_from_graph
from models.checkpoint import CheckpointCard
from models.config import VARIANTS, resnet_config
from training.checkpoint_from_dataset import checkpoint_from_dataset
from training.execution import Execution
from training.recipes import recipe_from_name
from workflow.bundle import WrittenBundle, bundled
from workflow.choice import session_from_options
from workflow.options import BundleOptions, RunOptions, SubjectOptions

# Two threads gain nothing on networks this small, and spin against whatever else the machine is doing. The
# commands that tests start inherit the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# Every run has the same examples, because no test may fail by chance, and none has a limit of time, because a
# busy machine would exceed it. `pytest --hypothesis-profile=explore` looks for new counterexamples.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")

TINY_DEPTH = 8
TINY_EPOCHS = 4
# Where the hardware computes in bfloat16 a training would use that, and the weights would depend on the CPU.
IN_FLOAT32 = Execution(arithmetic="fp32")

CIFAR10_DIR = Path(os.environ.get("SKIPFOLD_CIFAR10_DIR") or "no-such-folder")

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
def same_beginning() -> None:
    """Every test begins with the same random numbers and one thread, whichever tests ran before it.

    A PyTorch runtime, for one, sets the threads of the whole process.
    """
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return dataset_from_name("digits")


@pytest.fixture(scope="session")
def few(digits: Dataset) -> Dataset:
    """110 training, 10 calibration and 60 test digits, which an epoch trains on in a fraction of a second."""
    return dataset_from_splits("digits", digits.classes, parted(digits.train, 120), parted(digits.test, 60))


@pytest.fixture(scope="session")
def uninterrupted(
    few: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDirectory, CheckpointCard]:
    """A finished short training that others are compared with. A test must not change the run."""
    return trained(tmp_path_factory.mktemp("short") / "uninterrupted", few)


@pytest.fixture(scope="session")
def trained_runs(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run directory for each variant: trained, exported, calibrated. Not to be changed.

    Under pytest-xdist the first worker makes the runs, and the others wait for them.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained_runs"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = tmp_path_factory.mktemp("made")
            for variant in VARIANTS:
                _make_run(made / f"digits-{variant}-{TINY_DEPTH}", variant, digits)
            made.rename(folder)
    return {variant: folder / f"digits-{variant}-{TINY_DEPTH}" for variant in VARIANTS}


def _make_run(path: Path, variant: str, digits: Dataset) -> None:
    run = RunDirectory(path)
    recipe = replace(recipe_from_name("digits", 20), epochs=TINY_EPOCHS)
    checkpoint_from_dataset(run, resnet_config(variant, TINY_DEPTH), digits, recipe, execution=IN_FLOAT32)
    graph_from_checkpoint(run)
    for precision in NARROWED:
        narrowed_from_graph(run, precision)
    quantized_from_graph(run, digits, Plan())


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


@pytest.fixture(scope="session")
def bundled_run(trained_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The pre-activation run that `written` is a bundle of, with its verdicts. Not to be changed."""
    folder = tmp_path_factory.mktemp("bundled") / "run"
    return RunDirectory(Path(shutil.copytree(trained_runs["preact"], folder)))


@pytest.fixture(scope="session")
def written(bundled_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> WrittenBundle:
    """A bundle with its archive. Not to be changed."""
    session = session_from_options(RunOptions(run_dir=bundled_run.path))
    out = tmp_path_factory.mktemp("written") / "small"
    return bundled(session, options=BundleOptions(out=out, archive=True))


@pytest.fixture
def bundle_copy(written: WrittenBundle, tmp_path: Path) -> Path:
    """A test's own copy of the bundle."""
    return Path(shutil.copytree(written.folder, tmp_path / "small"))


@pytest.fixture
def bundle_document(written: WrittenBundle) -> BundleDocument:
    return written.document


@pytest.fixture(scope="session")
def pixel_bundle(bundled_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> WrittenBundle:
    """A bundle with graphs that take pixels, for ONNX Runtime. Not to be changed."""
    run = RunDirectory(Path(shutil.copytree(bundled_run.path, tmp_path_factory.mktemp("pixels") / "run")))
    out = tmp_path_factory.mktemp("pixels") / "small"
    session = session_from_options(RunOptions(run_dir=run.path))
    return bundled(session, SubjectOptions(engine=["ort"]), BundleOptions(out=out, u8=True))


@pytest.fixture(scope="session")
def page(pixel_bundle: WrittenBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page. Not to be changed."""
    try:
        runtime = runtime_from_npm()
    except UserError as error:
        pytest.skip(f"npm does not reach its registry: {error.problem}")
    folder = tmp_path_factory.mktemp("web") / "page"
    files = web_from_bundle(pixel_bundle.folder, pixel_bundle.document, runtime)
    write_folder(files, folder)
    return folder


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser


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
