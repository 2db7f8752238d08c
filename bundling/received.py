"""A bundle that was received: read, and checked file by file before anything in it is opened.

A folder passes if bundle.json is of a schema that this version knows, if the folder holds just the files
that bundle.json lists, each with the size and the sha256 that stand there, and if no entry is a symbolic link
or lies outside the folder. An archive is unpacked into a temporary folder first, under the same rules.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from artifacts.json_codec import from_text
from bundling.closed_folder import FIX, is_plain, require_closed
from bundling.document import DOCUMENT, SCHEMA, UNLISTED, BundleDocument
from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError

# More than this is unpacked from no archive, so that a small file cannot fill the disk.
_LARGEST_BUNDLE = 4 * 2**30
# The names of a member that need more than its 512 bytes, because they are long, need no more than this.
_LONGEST_NAME = 64 * 2**10


@contextmanager
def bundle_folder(path: Path) -> Iterator[Path]:
    """Give the body the folder of a bundle, unpacked into a temporary one if the path is an archive.

    Raises:
        UserError: there is nothing at the path.
        CheckFailed: the archive is damaged, or holds a member that no bundle has.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path} is not there", "name a folder, or an archive that ends in .tar.zst")
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="skipfold-") as temporary:
        yield _unpacked(path, Path(temporary))


def checked_document(folder: Path, sha256: str | None = None) -> BundleDocument:
    """Read bundle.json, and compare every file of the bundle with it.

    Args:
        sha256: what bundle.json has to hash to, from a channel that one trusts.

    Raises:
        CheckFailed: the folder is not the bundle that was written; see the module's docstring.
    """
    path = folder / DOCUMENT
    if path.is_symlink() or not path.is_file():
        raise CheckFailed(f"{folder} has no {DOCUMENT}", "name the folder of a bundle")
    text = path.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise CheckFailed(f"{path} has the sha256 {found}, not {sha256}", FIX)
    document = document_from_text(text, str(path))
    require_closed(folder, document.files, DOCUMENT, UNLISTED)
    _require_references(document)
    return document


def document_from_text(text: bytes, source: str) -> BundleDocument:
    """Return what the text of a bundle.json says.

    Args:
        source: how an error names the text.

    Raises:
        CheckFailed: the text is no JSON, or of another schema, or a field is missing, unknown or of another
            type.
    """
    try:
        return from_text(BundleDocument, text)
    except (ValueError, RecursionError) as error:
        raise CheckFailed(f"{source} is not of the schema {SCHEMA} ({error})", FIX) from error


def _require_references(document: BundleDocument) -> None:
    """Require that what is referred to is listed, that ids are unique, and that tensors have their sizes."""
    golden, picture, classes = document.golden, document.picture, len(document.classes)
    values = golden.count * picture.height * picture.width * 3
    tensors = [(golden.fitted, values), (golden.input, 4 * values)]
    tensors += [(artifact.golden.logits, 4 * golden.count * classes) for artifact in document.artifacts]
    files = [artifact.file for artifact in document.artifacts]
    referred = [*(name for name, _ in tensors), *golden.pictures, *files]
    if (picture.height, picture.width) != (IMAGE_SIZE, IMAGE_SIZE):
        raise CheckFailed(f"the pictures of {DOCUMENT} are not {IMAGE_SIZE}x{IMAGE_SIZE}", FIX)
    if missing := [name for name in referred if name not in document.files]:
        raise CheckFailed(f"{DOCUMENT} refers to {missing[0]} and does not list it", FIX)
    for name, size in tensors:
        if document.files[name].bytes != size:
            raise CheckFailed(f"{name} has {document.files[name].bytes} bytes, and its tensor {size}", FIX)
    ids = [artifact.id for artifact in document.artifacts]
    if len(set(ids)) != len(ids):
        raise CheckFailed(f"two artifacts of {DOCUMENT} have the same id", FIX)
    if not len(golden.labels) == len(golden.pictures) == golden.count > 0:
        raise CheckFailed(f"{DOCUMENT} has not one label for each of {golden.count} golden pictures", FIX)


def _unpacked(archive: Path, target: Path) -> Path:
    """Unpack an archive, and return the one folder that it holds."""
    from zstandard import ZstdDecompressor, ZstdError

    try:
        with archive.open("rb") as file, ZstdDecompressor().stream_reader(file) as stream:
            _unpack_members(stream, target)
    except (ZstdError, tarfile.TarError, EOFError) as error:
        raise CheckFailed(f"{archive} is no archive of a bundle ({error})", FIX) from error
    folders = list(target.iterdir())
    if len(folders) != 1 or not folders[0].is_dir():
        raise CheckFailed(f"{archive} holds {len(folders)} entries and not one folder", FIX)
    return folders[0]


class _Member(tarfile.TarInfo):
    """A header, refused before `tarfile` reads into memory what a header of another kind announces."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if not member.isreg() and member.size > _LONGEST_NAME:
            raise CheckFailed("the archive holds a header that is no file's", FIX)
        return member


def _unpack_members(stream: IO[bytes], target: Path) -> None:
    total = 0
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
        for member in tar:
            path = target / PurePosixPath(member.name)
            # A member takes at least the 512 bytes of its header, so that empty files count, too.
            total += 512 + member.size
            if not member.isreg() or not is_plain(member.name) or path.exists():
                raise CheckFailed(f"the archive holds '{member.name}', which no bundle has", FIX)
            if total > _LARGEST_BUNDLE:
                raise CheckFailed("the archive holds more than 4 GB", FIX)
            _unpack(tar, member, path)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise CheckFailed(
            f"the archive holds '{member.name}' below a file, which no bundle has", FIX
        ) from error
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
