"""The library for aarch64 has the version of this machine's, and comes from the wheel that is pinned."""

import re
import zipfile
from pathlib import Path

import pytest

from tools.edge import onnxruntime_aarch64
from tools.edge.onnxruntime_aarch64 import VERSION, WHEEL_SHA256, lay_out_aarch64
from tools.edge.steps import ROOT


class Pip:
    """Stands in for pip: remembers the commands and requirements, and writes a wheel."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.requirements: list[str] = []

    def run(self, command: list[str], log: Path) -> str:
        self.commands.append(command)
        self.requirements.append(Path(command[command.index("--requirement") + 1]).read_text())
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "onnxruntime.whl", "w") as wheel:
            wheel.writestr(f"onnxruntime/capi/libonnxruntime.so.{VERSION}", "library")
            wheel.writestr("onnxruntime/__init__.py", "")
        return ""


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    pip = Pip()
    monkeypatch.setattr(onnxruntime_aarch64, "run", pip.run)
    return pip


@pytest.fixture
def include(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include/onnxruntime_c_api.h").write_text("header")
    return tmp_path / "include"


def test_the_version_is_that_of_requirements() -> None:
    pinned = re.findall(
        r"^onnxruntime(?:-gpu)?==(\S+);", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    assert set(pinned) == {VERSION}


def test_the_library_and_the_headers_lie_where_cmake_looks(pip: Pip, include: Path, tmp_path: Path) -> None:
    folder = tmp_path / "laid"
    lay_out_aarch64(folder, include)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1", f"libonnxruntime.so.{VERSION}"):
        assert (folder / "lib" / name).read_text() == "library"
    assert (folder / "include/onnxruntime_c_api.h").read_text() == "header"
    assert [path.name for path in (folder / "wheel").iterdir()] == [f"libonnxruntime.so.{VERSION}"]


def test_pip_is_told_the_hash_and_the_platform(pip: Pip, include: Path, tmp_path: Path) -> None:
    lay_out_aarch64(tmp_path / "laid", include)
    assert pip.requirements == [f"onnxruntime=={VERSION} --hash=sha256:{WHEEL_SHA256}\n"]
    (command,) = pip.commands
    assert {"--require-hashes", "--no-deps", "manylinux_2_28_aarch64"} <= set(command)


def test_a_second_run_downloads_nothing(pip: Pip, include: Path, tmp_path: Path) -> None:
    lay_out_aarch64(tmp_path / "laid", include)
    lay_out_aarch64(tmp_path / "laid", include)
    assert len(pip.commands) == 1
