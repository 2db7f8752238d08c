"""Folders with a list of their files: nothing may be missing, changed or added.

`bundle.json` lists the files of a bundle, and `files.json` those of each folder that is written beside a
bundle. The next `bundle` replaces a folder only if that folder holds just what skipfold wrote.
"""

import hashlib
import os
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from artifacts.files import sha256_of
from artifacts.json_codec import from_text, to_text
from bundling.document import FileEntry
from errors import CheckFailed, UserError

LIST = "files.json"
FIX = "ask for the bundle again"


@dataclass(frozen=True)
class _FileList:
    """The content of files.json."""

    files: dict[str, FileEntry]


def entries_of(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Return the list of some files, sorted by path."""
    return {
        path: FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        for path, content in sorted(files.items())
    }


def with_list(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return files with files.json, which lists them."""
    return {**files, LIST: to_text(_FileList(entries_of(files))).encode()}


def require_as_listed(folder: Path) -> None:
    """Require that a folder holds just what its files.json lists; raises as `require_closed` does."""
    path = folder / LIST
    if path.is_symlink() or not path.is_file():
        raise CheckFailed(f"{folder} has no {LIST}", "name a folder that skipfold wrote")
    try:
        listed = from_text(_FileList, path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckFailed(f"{path} lists no files ({error})", "name a folder that skipfold wrote") from error
    require_closed(folder, listed.files, LIST, (LIST,))


def require_closed(
    folder: Path, files: Mapping[str, FileEntry], source: str, unlisted: Container[str]
) -> None:
    """Require that a folder holds just the files of a list, each with its size and sha256.

    Args:
        files: by their paths in the folder.
        source: the file that the list stands in, for the error.
        unlisted: paths that the list does not name, and that may be there.

    Raises:
        CheckFailed: a path of the list leads elsewhere; a file is missing, changed or not listed; an entry is
            a symbolic link or another special file.
        UserError: a file or a folder cannot be read.
    """
    if outside := [name for name in files if not is_plain(name) or name in unlisted]:
        raise CheckFailed(f"{source} lists '{outside[0]}', which is no path inside a bundle", FIX)
    try:
        _require_no_others(folder, files, source, unlisted)
        for name, entry in files.items():
            _require_content(folder / name, name, entry)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror})", "change its permissions, or its place"
        ) from error


def _require_no_others(
    folder: Path, files: Mapping[str, FileEntry], source: str, unlisted: Container[str]
) -> None:
    for place, folders, names in os.walk(folder, onerror=_raised):
        for entry in [*folders, *names]:
            path = Path(place, entry)
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise CheckFailed(f"{name} is no plain file", "a bundle has no links: " + FIX)
            if path.is_file() and name not in files and name not in unlisted:
                raise CheckFailed(f"{name} is not listed in {source}", "remove it, or " + FIX)


def _raised(error: OSError) -> None:
    """Raise what os.walk would pass over: a folder that cannot be read may hold anything."""
    raise error


def _require_content(path: Path, name: str, entry: FileEntry) -> None:
    if not path.is_file():
        raise CheckFailed(f"{name} is missing", FIX)
    if path.stat().st_size != entry.bytes:
        raise CheckFailed(f"{name} has {path.stat().st_size} bytes, not {entry.bytes}", FIX)
    if (found := sha256_of(path)) != entry.sha256:
        raise CheckFailed(f"{name} was changed: its sha256 is {found}, not {entry.sha256}", FIX)


def is_plain(name: str) -> bool:
    """Whether a name is a relative POSIX path that every file system takes.

    Such a path has no "..", nothing that Windows reads otherwise, and no more than 255 bytes in a part.
    """
    parts = name.split("/")
    short = all(len(part.encode(errors="replace")) <= 255 for part in parts) and len(name) < 1024
    plain = all(part not in ("", ".", "..") for part in parts)
    return plain and short and not re.search(r'[\\:*?"<>|\x00-\x1f\ud800-\udfff]', name)
