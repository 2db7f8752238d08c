"""What is missing is installed where this user may install, and named where the user may not."""

import subprocess
from pathlib import Path

import pytest

from errors import UserError
from tools.edge import packages
from tools.edge.packages import NEEDS, Need, install_packages, prefix_of_root


class Machine:
    """Stands in for apt: remembers the commands, and has what was installed from then on."""

    def __init__(self, exists: set[str]) -> None:
        self.commands: list[list[str]] = []
        self.exists = exists
        self.installed: set[str] = set()

    def run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if command[0] == "apt-cache":
            found = command[-1] in self.exists
            return subprocess.CompletedProcess(
                command, 0 if found else 100, "Package: x" if found else "", ""
            )
        if "install" in command:
            self.installed |= {word for word in command if not word.startswith("-")}
        return subprocess.CompletedProcess(command, 0, "", "")

    def need(self, *names: str) -> Need:
        return Need(names, lambda: bool(self.installed & set(names)))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine({"first", "third"})
    monkeypatch.setattr(packages.subprocess, "run", machine.run)
    monkeypatch.setattr(packages, "prefix_of_root", lambda: ["sudo", "-n"])
    return machine


def test_nothing_runs_where_nothing_is_missing(machine: Machine) -> None:
    assert install_packages([Need(("first",), lambda: True)]) == ()
    assert machine.commands == []


def test_the_first_name_that_exists_is_installed(machine: Machine) -> None:
    needs = [machine.need("first"), machine.need("second", "third"), Need(("present",), lambda: True)]
    assert install_packages(needs) == ("first", "third")
    assert machine.commands[0] == ["sudo", "-n", "apt-get", "update", "-qq"]
    installing = machine.commands[-1]
    assert installing[:4] == ["sudo", "-n", "apt-get", "install"]
    assert installing[-2:] == ["first", "third"]


def test_a_package_that_does_not_help_is_an_error(machine: Machine) -> None:
    with pytest.raises(UserError, match="still finds no trace of first"):
        install_packages([Need(("first",), lambda: False)])


def test_without_rights_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "prefix_of_root", lambda: None)
    with pytest.raises(UserError) as refused:
        install_packages([Need(("first", "other"), lambda: False), Need(("second",), lambda: False)])
    assert refused.value.fix.startswith("install first second (Debian's and Ubuntu's names)")


def test_apt_that_fails_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 100, "", "E: no network\n")

    monkeypatch.setattr(packages.subprocess, "run", failing)
    with pytest.raises(UserError, match=r"apt-get update -qq` failed: E: no network"):
        install_packages([Need(("first",), lambda: False)])


def test_there_is_no_way_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prefix_of_root() is None


def test_every_need_names_a_package_and_probes() -> None:
    assert all(need.packages and isinstance(need.present(), bool) for need in NEEDS)
