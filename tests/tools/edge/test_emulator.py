"""An emulator counts from version 10 on, wherever it lies; else one is unpacked."""

from pathlib import Path

import pytest

from errors import UserError
from tools.edge import emulator
from tools.edge.debian_package import Wanted
from tools.edge.emulator import find_emulator


def program(path: Path, version: str) -> Path:
    """A program that says its version as QEMU does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'qemu-aarch64 version {version} (Debian 1:{version}+ds)'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder on the path; /bin/sh is named in full."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that were unpacked; each holds version 10.0.13."""
    packages: list[str] = []

    def unpack(wanted: Wanted, folder: Path) -> Path:
        packages.append(wanted.package)
        program(folder / "unpacked/usr/bin/qemu-aarch64", "10.0.13")
        return folder / "unpacked"

    monkeypatch.setattr(emulator, "unpack", unpack)
    return packages


@pytest.mark.parametrize("name", ["qemu-aarch64", "qemu-aarch64-static"])
@pytest.mark.parametrize("version", ["10.0.0", "11.2"])
def test_one_on_the_path_is_taken(
    name: str, version: str, path: Path, unpacked: list[str], tmp_path: Path
) -> None:
    installed = program(path / name, version)
    found = find_emulator(tmp_path / "qemu")
    assert (found.program, found.version) == (installed, version)
    assert unpacked == []


@pytest.mark.parametrize("version", ["7.2.15", "9.2.0"])
def test_one_that_is_too_old_is_passed_over(
    version: str, path: Path, unpacked: list[str], tmp_path: Path
) -> None:
    program(path / "qemu-aarch64", version)
    found = find_emulator(tmp_path / "qemu")
    assert (found.program, found.version) == (tmp_path / "qemu/qemu-aarch64", "10.0.13")
    assert unpacked == ["qemu-user"]


@pytest.mark.usefixtures("path")
def test_the_program_alone_is_kept_and_found_again(unpacked: list[str], tmp_path: Path) -> None:
    first = find_emulator(tmp_path / "qemu")
    assert [file.name for file in (tmp_path / "qemu").iterdir()] == ["qemu-aarch64"]
    assert find_emulator(tmp_path / "qemu") == first
    assert unpacked == ["qemu-user"]


@pytest.mark.usefixtures("path")
def test_a_package_with_an_older_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unpack(wanted: Wanted, folder: Path) -> Path:
        program(folder / "usr/bin/qemu-aarch64", "7.2.15")
        return folder

    monkeypatch.setattr(emulator, "unpack", unpack)
    with pytest.raises(UserError, match="qemu-user of Debian holds no qemu-aarch64 10"):
        find_emulator(tmp_path / "qemu")
