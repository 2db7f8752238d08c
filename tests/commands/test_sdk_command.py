"""`sdk`: two folders, one line each, for use inside other commands."""

from pathlib import Path

import pytest
from command_line import Skipfold

from workflow import sdk
from workflow.sdk import source_files


def test_the_folder_of_the_sources(skipfold: Skipfold) -> None:
    outcome = skipfold("sdk")
    assert outcome.status == 0
    (line,) = outcome.out.splitlines()
    assert (Path(line) / "CMakeLists.txt").is_file()


def test_the_folder_for_cmake(skipfold: Skipfold) -> None:
    (line,) = skipfold("sdk", "--cmake-dir").out.splitlines()
    assert (Path(line) / "skipfoldConfig.cmake").is_file()
    assert (Path(line) / "skipfoldConfigVersion.cmake").is_file()


def test_an_installation_without_sources_says_so(
    skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sdk, "_SOURCES", tmp_path)
    outcome = skipfold("sdk", "--cmake-dir")
    assert outcome.status == 2
    assert "does not hold the sources of the C++ library" in outcome.err


def test_a_bundle_gets_what_builds_the_library_and_no_tests() -> None:
    files = source_files()
    header = Path(sdk.__file__).parents[1] / "edge/include/skipfold/skipfold.h"
    assert files["sdk/include/skipfold/skipfold.h"] == header.read_bytes()
    assert {"sdk/CMakeLists.txt", "sdk/cmake/Backends.cmake", "sdk/src/abi.cpp"} < set(files)
    assert not [name for name in files if name.startswith(("sdk/tests", "sdk/fuzz", "sdk/consumer"))]
