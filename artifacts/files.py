"""Hash, write and rename files, and say what of the machine stands in the way."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import UserError

# Name of what is being written and has not been published yet.
PARTIAL = ".partial"

# What the machine's owner has to mend, as against a bug of ours.
_ENVIRONMENT_ERRORS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: "raise the file size limit (ulimit -f)",
    errno.EACCES: "make it writable, or choose another place with {option}",
    errno.EPERM: "make it writable, or choose another place with {option}",
    errno.EROFS: "choose a writable place with {option}",
    errno.ENOTDIR: "choose a place below a folder with {option}",
    errno.EEXIST: "choose a place that is no file with {option}",
}


@contextmanager
def environment_errors(place: Path, option: str = "--run-dir") -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a `UserError` that names it.

    Args:
        option: with which a user chooses another place.
    """
    try:
        yield
    except OSError as error:
        fix = _ENVIRONMENT_ERRORS.get(error.errno or 0)
        if fix is None:
            raise
        where = error.filename or place
        problem = f"cannot write {where} ({error.strerror}); nothing was changed"
        raise UserError(problem, fix.format(option=option)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it into place."""
    temporary = path.with_name(f"{PARTIAL}-{path.name}")
    try:
        write_flushed(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
