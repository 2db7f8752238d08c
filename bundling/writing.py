"""A bundle in memory to a folder, and a folder to an archive, the same bytes every time."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from artifacts.files import PARTIAL, environment_errors, write_atomically, write_flushed
from bundling.assemble import Bundle
from bundling.document import DOCUMENT
from bundling.signing import sign
from errors import UserError

ARCHIVE_SUFFIX = ".tar.zst"
ZSTD_LEVEL = 19


def write_bundle(bundle: Bundle, out: Path, key: Path | None = None) -> None:
    """Write a bundle as a folder; a bundle that is there already is replaced.

    Args:
        key: the private key to sign the folder with.

    Raises:
        UserError: something is there that is no bundle; the folder cannot be written; the key cannot be used.
    """

    def finish(folder: Path) -> None:
        if key is not None:
            sign(folder, key)

    write_folder({**bundle.files, DOCUMENT: bundle.text}, out, "bundle", DOCUMENT, finish)


def write_folder(
    files: Mapping[str, bytes],
    out: Path,
    what: str,
    mark: str,
    finish: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a folder, which is whole whenever it is there; one of the same kind is replaced.

    Args:
        files: the content of every file, by the path in the folder.
        what: what the folder is, for the error.
        mark: a pattern that only files of such a folder fit, for example "bundle.json".
        finish: what is still to be done to the folder before it gets its name.

    Raises:
        UserError: something else is there, or the folder cannot be written.
    """
    _require_replaceable(out, what, mark)
    with environment_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}-", dir=out.parent))
        try:
            folder = staging / out.name
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                write_flushed(folder / path, content)
            finish(folder)
            if out.exists():
                out.rename(staging / "replaced")
            folder.rename(out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_archive(folder: Path) -> Path:
    """Write FOLDER.tar.zst beside a folder, and return its path.

    The members are sorted and bear no times, owners or permissions of this machine. With the same version of
    `zstandard` the same folder gives the same bytes.
    """
    from zstandard import ZstdCompressor

    archive = folder.with_name(folder.name + ARCHIVE_SUFFIX)
    with environment_errors(archive):
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


def _require_replaceable(out: Path, what: str, mark: str) -> None:
    is_one = out.is_dir() and (not any(out.iterdir()) or any(path.is_file() for path in out.glob(mark)))
    if os.path.lexists(out) and not is_one:
        raise UserError(f"{out} is there and is no {what}", "choose another --out")
