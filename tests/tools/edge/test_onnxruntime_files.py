"""The library under the names that linker and loader ask for, and headers only if they are pinned."""

import hashlib
from pathlib import Path

import pytest

from errors import UserError
from tools.edge import onnxruntime_files
from tools.edge.debian_package import Wanted
from tools.edge.onnxruntime_files import HEADER, lay_out, library_of_wheel

CONTENT = b"#define ORT_API_VERSION 21\n"


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "wheel/libonnxruntime.so.1.99.0"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr(onnxruntime_files, "library_of_wheel", lambda: library)
    monkeypatch.setattr(onnxruntime_files, "HEADER_SHA256", hashlib.sha256(CONTENT).hexdigest())


def include(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / HEADER).write_bytes(content)
    return folder


def refuse_to_fetch(target: Path) -> None:
    raise AssertionError("the headers were there already")


def test_the_library_has_its_soname_and_the_linkers_name(tmp_path: Path) -> None:
    lay_out(tmp_path / "laid", include(tmp_path / "given", CONTENT))
    names = {path.name: path.resolve().name for path in (tmp_path / "laid/lib").iterdir()}
    assert set(names) == {"libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.so.1.99.0"}
    assert set(names.values()) == {"libonnxruntime.so.1.99.0"}


def test_a_second_run_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path / "laid", include(tmp_path / "given", CONTENT))
    monkeypatch.setattr(onnxruntime_files, "_fetch_headers", refuse_to_fetch)
    lay_out(tmp_path / "laid")
    assert (tmp_path / "laid/include" / HEADER).read_bytes() == CONTENT


def test_a_header_that_changed_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    include(tmp_path / "laid/include", b"another")
    fetched: list[Path] = []
    monkeypatch.setattr(onnxruntime_files, "_fetch_headers", fetched.append)
    lay_out(tmp_path / "laid")
    assert fetched == [tmp_path / "laid/include"]


def test_a_fetched_header_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(package: Wanted, folder: Path) -> Path:
        include(folder / "usr/include/onnxruntime", b"another")
        return folder

    monkeypatch.setattr(onnxruntime_files, "unpack", unpack)
    monkeypatch.setattr(onnxruntime_files, "_is_pinned", lambda header: False)
    with pytest.raises(UserError, match=r"no longer holds the onnxruntime_c_api\.h that is pinned"):
        lay_out(tmp_path / "laid")


def test_a_folder_without_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no onnxruntime_c_api\.h"):
        lay_out(tmp_path / "laid", tmp_path)


def test_the_wheel_that_is_installed_has_the_library() -> None:
    assert library_of_wheel().name.startswith("libonnxruntime.so.")
