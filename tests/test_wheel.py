"""The installed package beside folders and packages whose names collide with skipfold's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BROKEN = 'raise ImportError("the {name} of another project was imported")\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but the wheel's content, built from a copy of what git tracks."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "results/", "docs/", "zoo/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        target,
    ]
    subprocess.run([*command, wheel], check=True, capture_output=True)
    return target


def run(installed: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m skipfold` in a folder, with that folder and a second one before the installed package."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place / "other"), str(installed)])}
    command = [sys.executable, "-m", "skipfold", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A working directory, and a folder of installed packages, full of the same names."""
    for place in (tmp_path, tmp_path / "other"):
        for name in ("models", "data", "graphs", "commands", "workflow"):
            (place / name).mkdir(parents=True)
            (place / name / "__init__.py").write_text(BROKEN.format(name=name))
        for name in ("progress", "errors", "cli", "vocabulary"):
            (place / f"{name}.py").write_text(BROKEN.format(name=name))
    return tmp_path


def test_one_name_is_installed(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"bin", "__pycache__"} == {"skipfold"}
    assert (installed / "skipfold/app/reporting/report.html.j2").is_file()
    assert not (installed / "skipfold/app/tests").exists()


def test_commands_run_beside_the_same_names(installed: Path, crowded: Path) -> None:
    shown = run(installed, crowded, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "deploy" in shown.stdout
    exported = run(installed, crowded, "export", "--depth", "8", "--quiet")
    assert exported.returncode == 0, exported.stderr
    assert (crowded / "runs/digits-preact-8/model.onnx").is_file()


def test_python_uses_it_after_activation(installed: Path, crowded: Path) -> None:
    """Also where a module of the same name was imported before from elsewhere."""
    (crowded / "progress.py").write_text("mine = True\n")
    code = (
        "import sys, progress, skipfold; assert progress.mine; skipfold.activate(); "
        "from workflow.deploy import deploy; from progress import silent; "
        "assert 'skipfold' in sys.modules['progress'].__file__"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(crowded / "other"), str(installed)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=crowded, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
