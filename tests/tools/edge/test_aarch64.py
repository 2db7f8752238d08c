"""The cross-compiled tests run where an emulator is, and the line says so where none is."""

from pathlib import Path

import pytest

from errors import CheckFailed, UserError
from tools.edge import aarch64
from tools.edge.aarch64 import check_aarch64, distances
from tools.edge.builds import Build
from tools.edge.emulator import Emulator

LOG = """\
test_golden.cpp:15: MESSAGE: ort-int8 on the golden pictures: 77.5 dB from the golden logits
test_split.cpp:37: MESSAGE: ort-int8 on 360 pictures: 76.9 dB from Python's logits
test_split.cpp:37: MESSAGE: other
"""


class Builds:
    """Stands in for CMake and CTest: remembers what was compiled, and what was run."""

    def __init__(self) -> None:
        self.compiled: list[Build] = []
        self.ran: list[Build] = []

    def compile(self, build: Build, work: Path) -> None:
        self.compiled.append(build)

    def run(self, build: Build, work: Path) -> str:
        self.ran.append(build)
        log = work / "aarch64/Testing/Temporary/LastTest.log"
        log.parent.mkdir(parents=True)
        log.write_text(LOG)
        return "Start 1\n100% tests passed, 0 tests failed out of 1\n"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds()
    monkeypatch.setattr(aarch64, "lay_out_aarch64", lambda folder, include: None)
    monkeypatch.setattr(aarch64, "compile_build", builds.compile)
    monkeypatch.setattr(aarch64, "run_tests", builds.run)
    return builds


def test_the_golden_tests_run_in_the_emulator(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Emulator(Path("/some/qemu-aarch64"), "10.0.13")
    monkeypatch.setattr(aarch64, "find_emulator", lambda folder: found)
    said = check_aarch64(tmp_path)
    (build,) = builds.compiled
    assert builds.ran == [build]
    assert (
        "-DCMAKE_CROSSCOMPILING_EMULATOR=/some/qemu-aarch64;-cpu;cortex-a76;-L;/usr/aarch64-linux-gnu"
        in build.options
    )
    assert (
        "100% tests passed, 0 tests failed out of 1, a cortex-a76 emulated by QEMU 10.0.13: ort-int8" in said
    )


def test_without_an_emulator_the_line_names_what_was_skipped(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none(folder: Path) -> Emulator:
        raise UserError("there is none", "install one")

    monkeypatch.setattr(aarch64, "find_emulator", none)
    said = check_aarch64(tmp_path)
    assert said == "compiled; golden_tests are skipped, because there is none (fix: install one)"
    assert [build.name for build in builds.compiled] == ["aarch64"]
    assert builds.ran == []


def test_the_distances_of_every_artifact_are_told() -> None:
    assert distances(LOG) == "ort-int8 on the golden pictures: 77.5 dB; ort-int8 on 360 pictures: 76.9 dB"


def test_a_log_without_distances_is_a_failure() -> None:
    with pytest.raises(CheckFailed, match="without a word about an artifact"):
        distances("[doctest] Status: SUCCESS!")
