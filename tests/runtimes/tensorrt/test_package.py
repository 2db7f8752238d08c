import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pretended_gpus import set_gpus

import runtimes.tensorrt.package as package
from errors import UserError
from machine.gpu import Gpu
from runtimes.tensorrt.package import BUILDERS, Builder, installed_builder

L4 = Gpu("NVIDIA L4", 89)
BOTH = {"tensorrt-rtx": "1.7", "tensorrt": "11.0"}
RTX = {"tensorrt-rtx": "1.7"}
TENSORRT = {"tensorrt": "11.0"}


@pytest.fixture
def set_installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    return lambda versions: monkeypatch.setattr(package, "version_of", versions.get)


@pytest.mark.parametrize(
    ("installed", "gpus_here", "asked", "chosen"),
    [
        (BOTH, [], None, "rtx"),
        (BOTH, [L4], None, "tensorrt"),
        (RTX, [], None, "rtx"),
        (RTX, [L4], None, "rtx"),
        (TENSORRT, [L4], None, "tensorrt"),
        (BOTH, [], "rtx", "rtx"),
        (BOTH, [L4], "rtx", "rtx"),
        (BOTH, [L4], "tensorrt", "tensorrt"),
    ],
)
def test_builder_that_suits_the_machine_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    set_installed,
    installed: dict[str, str],
    gpus_here: list[Gpu],
    asked: str | None,
    chosen: str,
) -> None:
    set_installed(installed)
    set_gpus(monkeypatch, *gpus_here)
    assert installed_builder(asked) is BUILDERS[chosen]


@pytest.mark.parametrize(
    ("installed", "gpus_here", "asked", "problem", "fix"),
    [
        (BOTH, [], "tensorrt", "this machine has no GPU", "pip install tensorrt-rtx"),
        (TENSORRT, [], None, "this machine has no GPU", "pip install tensorrt-rtx"),
        ({}, [], None, "TensorRT for RTX and TensorRT are not installed", "pip install tensorrt-rtx"),
        ({}, [L4], None, "TensorRT and TensorRT for RTX are not installed", "pip install tensorrt "),
        (TENSORRT, [L4], "rtx", "TensorRT for RTX is not installed", "pip install tensorrt-rtx"),
        (RTX, [L4], "tensorrt", "TensorRT is not installed", "pip install tensorrt "),
        (BOTH, [L4], "openvino", "unknown --builder 'openvino'", "rtx or tensorrt"),
    ],
)
def test_refusal_says_what_is_missing_and_what_to_install(
    set_installed,
    monkeypatch: pytest.MonkeyPatch,
    installed: dict[str, str],
    gpus_here: list[Gpu],
    asked: str | None,
    problem: str,
    fix: str,
) -> None:
    set_installed(installed)
    set_gpus(monkeypatch, *gpus_here)
    with pytest.raises(UserError) as refusal:
        installed_builder(asked)
    assert problem in refusal.value.problem
    assert fix in refusal.value.fix


def test_only_rtx_builds_ahead_of_time() -> None:
    assert {name for name, builder in BUILDERS.items() if builder.ahead_of_time} == {"rtx"}


def test_package_that_does_not_import_is_a_user_error() -> None:
    builder = Builder("rtx", "no_such_module_of_nvidia", "tensorrt-rtx", "TensorRT for RTX")
    with pytest.raises(UserError, match=r"cannot be imported.*no_such_module_of_nvidia") as refusal:
        builder.load()
    assert refusal.value.fix == "pip install tensorrt-rtx"


def test_library_that_does_not_load_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(package.importlib, "import_module", broken)
    with pytest.raises(UserError, match=r"cannot be imported.*libcudart\.so"):
        BUILDERS["tensorrt"].load()


def test_version_of_a_missing_package_is_none() -> None:
    assert Builder("x", "x", "no-such-distribution-of-nvidia", "x").version is None


def _forget_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `tensorrt` be imported anew, and be forgotten after the test, or be again what it was before."""
    # Setting first makes pytest take the module away at the end even if there was none at the start.
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    monkeypatch.delitem(sys.modules, "tensorrt")


def test_the_version_is_the_module_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`tensorrt` may be installed by `tensorrt-cu12` or `tensorrt-cu13`, under whose names nobody looks."""
    (tmp_path / "tensorrt.py").write_text("__version__ = '11.1.2'\n")
    monkeypatch.syspath_prepend(tmp_path)
    _forget_tensorrt(monkeypatch)
    assert package.version_of("tensorrt") == "11.1.2"
    assert package.version_of("no-such-package") is None


def test_a_module_that_does_not_load_has_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path)
    _forget_tensorrt(monkeypatch)
    assert package.version_of("tensorrt") is None


def test_a_folder_of_that_name_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt_nothing").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert package.version_of("tensorrt-nothing") is None
