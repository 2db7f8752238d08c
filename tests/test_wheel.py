"""The installed package beside folders and packages whose names collide with skipfold's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BROKEN = 'raise ImportError("the {name} of another project was imported")\n'


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, because setuptools writes into the folder it builds from."""
    source = tmp_path_factory.mktemp("source")
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "results/", "docs/", "zoo/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


def install(source: Path, place: Path, build: str) -> Path:
    """Build a wheel without network and install it alone into a new folder.

    Args:
        build: function of setuptools: "build_wheel", or "build_editable" as `pip install -e .` calls it.
    """
    code = f"from setuptools import build_meta; build_meta.{build}({str(place)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    target = place / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--target", target]
    command = [sys.executable, "-m", "pip", "install", *options, wheel]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but the wheel's content."""
    return install(source, tmp_path_factory.mktemp("wheel"), "build_wheel")


def run(installed: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m skipfold` in a folder, with that folder and a second one before the installed package."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place / "other"), str(installed)])}
    command = [sys.executable, "-m", "skipfold", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def run_code(path: list[Path], place: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python code in a folder, with other folders first on the import path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code]
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
    page = {path.name for path in (ROOT / "bundling/web").iterdir()}
    assert {path.name for path in (installed / "skipfold/app/bundling/web").iterdir()} == page
    assert (installed / "skipfold/app/edge/include/skipfold/skipfold.h").is_file()
    assert not (installed / "skipfold/app/tests").exists()


def test_commands_run_beside_the_same_names(installed: Path, crowded: Path) -> None:
    shown = run(installed, crowded, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "deploy" in shown.stdout
    exported = run(installed, crowded, "export", "--depth", "8", "--quiet")
    assert exported.returncode == 0, exported.stderr
    assert (crowded / "runs/digits-preact-8/model.onnx").is_file()


def test_the_sources_of_the_library_are_installed(installed: Path, crowded: Path) -> None:
    """Every file that builds the library and its programs, as git has them."""
    printed = run(installed, crowded, "sdk")
    assert printed.returncode == 0, printed.stderr
    sources = Path(printed.stdout.strip())
    assert sources == installed / "skipfold/app/edge"
    for part in ("CMakeLists.txt", "cmake", "include", "src", "apps", "examples"):
        for path in (ROOT / "edge" / part, *(ROOT / "edge" / part).rglob("*")):
            if path.is_file():
                copy = sources / path.relative_to(ROOT / "edge")
                assert copy.read_bytes() == path.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="the script is an .exe on Windows")
def test_the_script_runs_beside_the_same_names(installed: Path, crowded: Path) -> None:
    code = f"import runpy; runpy.run_path({str(installed / 'bin/skipfold')!r}, run_name='__main__')"
    shown = run_code([crowded / "other", installed], crowded, code)
    assert shown.returncode == 0, shown.stderr
    assert "deploy" in shown.stdout


def test_python_uses_it_after_activation(installed: Path, crowded: Path) -> None:
    """Also where modules of the same names were imported before: `training` is a folder without a package."""
    (crowded / "progress.py").write_text("mine = True\n")
    (crowded / "training").mkdir()
    code = (
        "import sys, progress, training, skipfold; assert progress.mine; skipfold.activate(); "
        "from workflow.deploy import deploy; from progress import silent; from training import recipes; "
        "assert 'skipfold' in sys.modules['progress'].__file__"
    )
    done = run_code([crowded / "other", installed], crowded, code)
    assert done.returncode == 0, done.stderr


def test_editable_installation_uses_the_checkout(
    source: Path, crowded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`pip install -e .` copies nothing, so that there is no folder `app`."""
    site = install(source, tmp_path_factory.mktemp("editable"), "build_editable")
    code = (
        f"import site, sys; site.addsitedir({str(site)!r}); import skipfold; skipfold.activate(); "
        f"import cli; assert cli.__file__ == {str(source / 'cli.py')!r}, cli.__file__; "
        "sys.argv[1:] = ['--help']; skipfold.main()"
    )
    shown = run_code([crowded / "other"], crowded, code)
    assert shown.returncode == 0, shown.stderr
    assert "deploy" in shown.stdout
