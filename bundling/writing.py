"""A bundle in memory to a folder, and a folder to an archive, the same bytes every time."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from artifacts.files import PARTIAL, environment_errors, write_atomically, write_flushed
from bundling.assemble import Bundle
from bundling.closed_folder import require_as_listed, with_list
from bundling.document import DOCUMENT
from bundling.received import bundle_folder, checked_document
from bundling.signing import sign
from errors import CheckFailed, UserError

ARCHIVE_SUFFIX = ".tar.zst"
ZSTD_LEVEL = 19


def require_place(bundle: Path, archive: bool, triton: bool, web: bool) -> None:
    """Require that a bundle, and what is to lie beside it, can be written without loss to the user.

    A place is good if nothing is there, or an empty folder, or just what skipfold wrote there before. That is
    asked before the long work of a bundle, and once more by each function that writes.

    Raises:
        UserError: something else is there.
    """
    if bundle.name in ("", ".."):
        raise UserError(f"{bundle} has no name of its own", "give --out the name of a new folder")
    _require_replaceable(bundle, _BUNDLE)
    if archive:
        _require_replaceable(archive_beside(bundle), _ARCHIVE)
    for name in ["triton"] * triton + ["web"] * web:
        _require_replaceable(folder_beside(bundle, name), _FOLDER)


def folder_beside(bundle: Path, name: str) -> Path:
    """Return where a folder beside a bundle lies, for example `digits-web` beside `digits`."""
    return bundle.with_name(f"{bundle.name}-{name}")


def archive_beside(bundle: Path) -> Path:
    """Return where the archive of a bundle lies."""
    return bundle.with_name(bundle.name + ARCHIVE_SUFFIX)


def write_bundle(bundle: Bundle, out: Path, key: Path | None = None) -> None:
    """Write a bundle as a folder; a whole bundle that is there already is replaced.

    Args:
        key: the private key to sign the folder with.

    Raises:
        UserError: something is there that is no bundle; the folder cannot be written; the key cannot be used.
    """

    def finish(folder: Path) -> None:
        if key is not None:
            sign(folder, key)

    _require_replaceable(out, _BUNDLE)
    _publish({**bundle.files, DOCUMENT: bundle.text}, out, finish)


def write_folder(files: Mapping[str, bytes], out: Path) -> None:
    """Write a folder with a list of its files; one that holds just what its list says is replaced.

    Args:
        files: the content of every file, by the path in the folder.

    Raises:
        UserError: something else is there, or the folder cannot be written.
    """
    _require_replaceable(out, _FOLDER)
    _publish(with_list(files), out)


def _publish(
    files: Mapping[str, bytes], out: Path, finish: Callable[[Path], None] = lambda folder: None
) -> None:
    """Write a folder, which is whole whenever it is there.

    Args:
        finish: what is still to be done to the folder before it gets its name.
    """
    with environment_errors(out, "--out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}-", dir=out.parent))
        try:
            folder = staging / out.name
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                write_flushed(folder / path, content)
            finish(folder)
            _put_in_place(folder, out, staging / "replaced")
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(folder: Path, out: Path, former: Path) -> None:
    """Give a folder its name, and keep the folder that had the name if anything comes between."""
    try:
        if out.exists():
            out.rename(former)
        folder.rename(out)
    except BaseException:
        # Ctrl-C, for example, between the two.
        if former.exists() and not out.exists():
            former.rename(out)
        raise


def write_archive(folder: Path) -> Path:
    """Write FOLDER.tar.zst beside a folder, and return its path.

    The members are sorted and bear no times, owners or permissions of this machine. With the same version of
    `zstandard` the same folder gives the same bytes.
    """
    from zstandard import ZstdCompressor

    archive = archive_beside(folder)
    _require_replaceable(archive, _ARCHIVE)
    with environment_errors(archive, "--out"):
        write_atomically(archive, ZstdCompressor(level=ZSTD_LEVEL).compress(_tar_of(folder)))
    return archive


def _tar_of(folder: Path) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        files = (path for path in folder.rglob("*") if path.is_file())
        for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
            content = path.read_bytes()
            # A new TarInfo has the time 0, the user and the group 0 without names, and the mode 0644.
            member = tarfile.TarInfo(f"{folder.name}/{name}")
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return buffer.getvalue()


def _require_whole_archive(path: Path) -> None:
    with bundle_folder(path) as folder:
        checked_document(folder)


@dataclass(frozen=True)
class _Kind:
    """What may be replaced.

    Attributes:
        words: what an error calls one.
        require: raises CheckFailed unless a path is one, and whole.
    """

    words: str
    require: Callable[[Path], object]


_BUNDLE = _Kind("bundle that skipfold wrote", checked_document)
_ARCHIVE = _Kind("archive of a bundle", _require_whole_archive)
_FOLDER = _Kind("folder that skipfold wrote", require_as_listed)


def _require_replaceable(path: Path, kind: _Kind) -> None:
    """Require that nothing of a user is lost when a path is replaced."""
    is_empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if is_empty or not os.path.lexists(path):
        return
    try:
        if path.is_symlink():
            raise CheckFailed("it is a link", "name what the link leads to")
        kind.require(path)
    except CheckFailed as error:
        raise UserError(
            f"{path} is there and is no {kind.words} ({error.problem})",
            "choose another --out, or move away what is there",
        ) from error
