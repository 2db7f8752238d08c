"""Lists of files, and folders that do not hold just what their list says."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bundling.closed_folder import LIST, is_plain, require_as_listed, with_list
from errors import CheckFailed, UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in with_list({"a/one.bin": b"one", "two.txt": b"two"}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_folder_that_holds_what_it_lists(folder: Path) -> None:
    require_as_listed(folder)
    listed = json.loads((folder / LIST).read_text())["files"]
    assert list(listed) == ["a/one.bin", "two.txt"]
    assert listed["two.txt"]["bytes"] == 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "a/more").write_bytes(b""), r"a/more is not listed in files\.json"),
        (lambda folder: (folder / "two.txt").write_bytes(b"six"), r"two\.txt was changed"),
        (lambda folder: (folder / "two.txt").unlink(), r"two\.txt is missing"),
        (lambda folder: (folder / LIST).unlink(), r"has no files\.json"),
        (lambda folder: (folder / LIST).write_text("[]"), r"files\.json lists no files"),
    ],
)
def test_a_folder_that_holds_something_else(
    folder: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(folder)
    with pytest.raises(CheckFailed, match=words):
        require_as_listed(folder)


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    with pytest.raises(UserError, match=r"closed cannot be read \(Permission denied\)"):
        require_as_listed(folder)


@pytest.mark.parametrize("name", ["a", "a/b.onnx", "golden/pictures/00.png", "a-b_c.1", "ä", "n" * 255])
def test_plain_names(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/a", "a/", "a//b", ".", "./a", "..", "a/../b", "a\\b", "C:a", "a\0b", "a\nb", "a*"),
        *("n" * 256, "ä" * 128, "a/" * 600 + "a", "a\udc80"),
    ],
)
def test_names_that_lead_elsewhere_or_that_a_file_system_refuses(name: str) -> None:
    assert not is_plain(name)
