"""Files are hashed and written atomically, and errors of the environment become errors of the user."""

import errno
import hashlib
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import snapshot

from artifacts.files import environment_errors, sha256_of, write_atomically
from errors import UserError


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "--run-dir"),
        (errno.EROFS, "--run-dir"),
        (errno.ENOTDIR, "--run-dir"),
    ],
    ids=errno.errorcode.get,
)
def test_errors_of_the_environment_name_the_place_and_the_fix(tmp_path: Path, code: int, fix: str) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as error, environment_errors(tmp_path):
        raise OSError(code, "as the system says it")
    assert "as the system says it" in error.value.problem
    assert fix in error.value.fix


def test_the_file_of_an_environment_error_is_named_rather_than_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the-file"), environment_errors(tmp_path):
        raise OSError(errno.EACCES, "denied", "the-file")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no"), OSError("plain"), ValueError()])
def test_errors_that_are_bugs_keep_their_type(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, environment_errors(tmp_path):
        raise error
    assert caught.value is error


def test_write_atomically_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"first")
    write_atomically(tmp_path / "file", b"second")
    assert snapshot(tmp_path) == {"file": b"second"}


def test_write_atomically_keeps_the_old_content_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomically(tmp_path / "file", b"first")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", b"second")
    assert snapshot(tmp_path) == {"file": b"first"}


@given(content=st.binary(max_size=100))
def test_sha256_of_a_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()
