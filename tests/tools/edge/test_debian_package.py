"""A package is unpacked from the mirror of this machine, and nothing is installed."""

import subprocess
from pathlib import Path

import pytest

from errors import UserError
from tools.edge import debian_package
from tools.edge.debian_package import Wanted, unpack

WANTED = Wanted("some-package", "put it there yourself")
LISTED = "Debian http://b/debian stable\n"


class Apt:
    """Stands in for apt and dpkg-deb: remembers the commands, and downloads an empty package."""

    def __init__(self, failing: str = "") -> None:
        self.commands: list[list[str]] = []
        self.failing = failing

    def run(self, command: list, **options: object) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.failing and self.failing in words:
            return subprocess.CompletedProcess(command, 100, "", "W: slow\nE: no network\n")
        if "download" in words:
            (Path(str(options["cwd"])) / f"{words[-1]}_1_amd64.deb").touch()
        return subprocess.CompletedProcess(command, 0, LISTED, "")


@pytest.fixture(autouse=True)
def tools_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_package.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_a_package_is_read_with_private_lists_and_unpacked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt = Apt()
    monkeypatch.setattr(debian_package.subprocess, "run", apt.run)
    assert unpack(WANTED, tmp_path) == tmp_path / "unpacked"
    assert (tmp_path / "sources.list").read_text().endswith(" http://b/debian trixie main\n")
    updating, downloading, unpacking = apt.commands[1:]
    for command in (updating, downloading):
        assert f"-oDir::State::Lists={tmp_path / 'lists'}" in command
        assert not {"install", "sudo"} & set(command)
    assert downloading[-2:] == ["download", "some-package"]
    assert unpacking[:2] == ["dpkg-deb", "-x"]


@pytest.mark.parametrize("failing", ["update", "download"])
def test_apt_that_fails_is_quoted(failing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(debian_package.subprocess, "run", Apt(failing).run)
    with pytest.raises(UserError, match=r"failed for some-package of trixie: E: no network") as refused:
        unpack(WANTED, tmp_path)
    assert refused.value.fix == WANTED.by_hand


def test_without_apt_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(debian_package.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="some-package is needed, and there is no apt-get"):
        unpack(WANTED, tmp_path)


@pytest.mark.parametrize(
    ("listed", "mirror"),
    [
        (
            "Google http://elsewhere cloud\nDebian http://a/security oldstable-security\n"
            "Debian http://a/updates oldstable-updates\nDebian http://a/debian oldstable\n",
            "http://a/debian",
        ),
        ("Debian http://b/debian stable\n", "http://b/debian"),
    ],
)
def test_the_mirror_is_the_one_of_the_machine(
    listed: str, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_package.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(
        debian_package.subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(command, 0, listed, ""),
    )
    assert debian_package._debian_mirror(WANTED) == mirror


def test_another_distribution_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_package.shutil, "which", lambda name: f"/usr/bin/{name}")
    listed = subprocess.CompletedProcess([], 0, "Ubuntu http://c/ubuntu noble\n", "")
    monkeypatch.setattr(debian_package.subprocess, "run", lambda command, **options: listed)
    with pytest.raises(UserError, match="apt knows no mirror of Debian here") as refused:
        debian_package._debian_mirror(WANTED)
    assert refused.value.fix == WANTED.by_hand
