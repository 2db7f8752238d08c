"""A bundle of the small pre-activation run, made once a session, and copies of it that a test may spoil."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.json_codec import from_text, to_text
from artifacts.run_directory import RunDirectory
from bundling.document import DOCUMENT, BundleDocument
from workflow.bundle import WrittenBundle, bundled
from workflow.choice import session_from_options
from workflow.options import BundleOptions, RunOptions


@pytest.fixture(scope="session")
def bundled_run(trained_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that `written` is a bundle of, with its verdicts. Not to be changed."""
    folder = tmp_path_factory.mktemp("bundled") / "run"
    return RunDirectory(Path(shutil.copytree(trained_runs["preact"], folder)))


@pytest.fixture(scope="session")
def written(bundled_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> WrittenBundle:
    """The bundle with its archive. Not to be changed."""
    session = session_from_options(RunOptions(run_dir=bundled_run.path))
    out = tmp_path_factory.mktemp("written") / "small"
    return bundled(session, options=BundleOptions(out=out, archive=True))


@pytest.fixture
def folder(written: WrittenBundle, tmp_path: Path) -> Path:
    """A test's own copy of the bundle."""
    return Path(shutil.copytree(written.folder, tmp_path / "small"))


@pytest.fixture
def document(written: WrittenBundle) -> BundleDocument:
    return written.document


def rewrite(folder: Path, change: Callable[[BundleDocument], BundleDocument]) -> BundleDocument:
    """Write another bundle.json into a bundle."""
    changed = change(from_text(BundleDocument, (folder / DOCUMENT).read_bytes()))
    (folder / DOCUMENT).write_text(to_text(changed))
    return changed
