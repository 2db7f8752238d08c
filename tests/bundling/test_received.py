"""What is refused of a bundle that was received, each with words that say what is wrong."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import snapshot
from spoiled_bundles import Change, replace_file, rewrite
from zstandard import ZstdCompressor

from bundling.received import bundle_folder, checked_document
from errors import CheckFailed, UserError
from workflow.bundle import WrittenBundle

MODEL = "models/model.onnx"


def test_a_whole_bundle_passes(bundle_copy: Path, written: WrittenBundle) -> None:
    assert checked_document(bundle_copy) == written.document
    assert checked_document(bundle_copy, written.sha256.upper()) == written.document


def test_a_signature_beside_the_list_is_no_stranger(bundle_copy: Path) -> None:
    (bundle_copy / "bundle.sig").write_text("{}")
    checked_document(bundle_copy)


def test_another_document_than_was_announced(bundle_copy: Path, written: WrittenBundle) -> None:
    text = (bundle_copy / "bundle.json").read_text()
    (bundle_copy / "bundle.json").write_text(text + "\n")
    with pytest.raises(CheckFailed, match=f"bundle.json has the sha256 [0-9a-f]*, not {written.sha256}"):
        checked_document(bundle_copy, written.sha256)


def append_byte(folder: Path) -> None:
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes() + b"\0")


def flip_bit(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[5000] ^= 1
    (folder / MODEL).write_bytes(content)


def link_to_itself(folder: Path) -> None:
    """The content is right, and yet a link can be turned to other content later."""
    (folder / MODEL).rename(folder.parent / "elsewhere.onnx")
    (folder / MODEL).symlink_to(folder.parent / "elsewhere.onnx")


def link_folder(folder: Path) -> None:
    shutil.move(folder / "golden", folder.parent / "golden")
    (folder / "golden").symlink_to(folder.parent / "golden")


def link_document(folder: Path) -> None:
    (folder / "bundle.json").rename(folder.parent / "bundle.json")
    (folder / "bundle.json").symlink_to(folder.parent / "bundle.json")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / MODEL).unlink(), "models/model.onnx is missing"),
        (append_byte, "models/model.onnx has [0-9]+ bytes, not [0-9]+"),
        (flip_bit, "models/model.onnx was changed: its sha256 is"),
        (lambda folder: (folder / "models/more.onnx").write_bytes(b""), "models/more.onnx is not listed"),
        (lambda folder: (folder / ".hidden").write_bytes(b""), ".hidden is not listed"),
        (link_to_itself, "models/model.onnx is no plain file"),
        (link_folder, "golden is no plain file"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe is no plain file"),
        (link_document, "has no bundle.json"),
        (lambda folder: (folder / "bundle.json").unlink(), "has no bundle.json"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "is not of the schema skipfold.bundle/1"),
        (lambda folder: (folder / "bundle.json").write_bytes(b"\xff"), "is not of the schema"),
        (lambda folder: (folder / "bundle.json").write_text("[" * 100_000), "is not of the schema"),
    ],
    ids=[
        *("missing", "longer", "changed", "extra", "hidden", "link", "linked folder", "pipe"),
        *("linked document", "no document", "cut document", "no text", "deep document"),
    ],
)
def test_a_spoiled_folder(bundle_copy: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(bundle_copy)
    with pytest.raises(CheckFailed, match=words):
        checked_document(bundle_copy)


def listed_as(name: str) -> Change:
    return lambda fields: fields["files"].update({name: {"sha256": "0" * 64, "bytes": 0}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fields: fields.update(schema="skipfold.bundle/2"), "is not of the schema skipfold.bundle/1"),
        (lambda fields: fields.update(written="today"), "unknown field written"),
        (lambda fields: fields.pop("golden"), "missing required field `golden`"),
        (listed_as("../outside"), "lists '../outside', which is no path inside a bundle"),
        (listed_as("/etc/passwd"), "lists '/etc/passwd', which is no path"),
        (listed_as("models//model.onnx"), "lists 'models//model.onnx', which is no path"),
        (listed_as("bundle.json"), "lists 'bundle.json', which is no path"),
        (
            lambda fields: fields["artifacts"][0].update(file="models/other.onnx"),
            "refers to models/other.onnx",
        ),
        (lambda fields: fields["golden"].update(fitted="../fitted.u8"), "refers to ../fitted.u8"),
        (
            lambda fields: fields["golden"].update(fitted="golden/input.f32"),
            "golden/input.f32 has 393216 bytes",
        ),
        (
            lambda fields: fields["golden"].update(count=31),
            "golden/fitted.u8 has 98304 bytes, and its tensor",
        ),
        (lambda fields: fields["picture"].update(height=64), "the pictures of bundle.json are not 32x32"),
        (lambda fields: fields["golden"]["labels"].pop(), "has not one label for each of 32 golden pictures"),
        (lambda fields: fields["golden"]["pictures"].pop(), "has not one label for each of 32"),
        (
            lambda fields: [fields["golden"][name].pop() for name in ("labels", "pictures")],
            "has not one label for each of 32",
        ),
        (
            lambda fields: fields["artifacts"][1].update(id=fields["artifacts"][0]["id"]),
            "two artifacts of bundle.json have the same id",
        ),
        (lambda fields: fields["classes"].pop(), "has 1280 bytes, and its tensor 1152"),
    ],
)
def test_a_document_that_does_not_fit(bundle_copy: Path, change: Change, words: str) -> None:
    rewrite(bundle_copy, change)
    with pytest.raises(CheckFailed, match=words):
        checked_document(bundle_copy)


def test_an_archive_is_unpacked_and_taken_away_again(written: WrittenBundle) -> None:
    assert written.archive is not None
    with bundle_folder(written.archive) as folder:
        assert snapshot(folder) == snapshot(written.folder)
        assert checked_document(folder) == written.document
    assert not folder.exists()


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent is not there"), bundle_folder(tmp_path / "absent"):
        pass


def archive_of(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(ZstdCompressor().compress(buffer.getvalue()))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "members",
    [
        [member("../escaped")],
        [member("/tmp/escaped")],
        [member("a/../../escaped")],
        [member("a/link", tarfile.SYMTYPE, "../.."), member("a/link/escaped")],
        [member("a/hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("a/device", tarfile.CHRTYPE)],
        [member("a/pipe", tarfile.FIFOTYPE)],
        [member("a/folder", tarfile.DIRTYPE)],
        [member("a/twice"), member("a/twice")],
        [member("a/file"), member("a/file/below")],
        [member("a/" + "n" * 300)],
        [member("a/" * 2000 + "a")],
        [member("a/\udc80")],
    ],
    ids=[
        *("..", "absolute", "inner ..", "link", "hard link", "device", "pipe", "folder", "twice"),
        *("below a file", "long name", "long path", "no text"),
    ],
)
def test_a_member_that_no_bundle_has(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    archive = archive_of(tmp_path / "bad.tar.zst", *members)
    before = snapshot(tmp_path)
    with (
        pytest.raises(CheckFailed, match=r"the archive holds '.*', which no bundle has|below a file, which"),
        bundle_folder(archive),
    ):
        pass
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("names", [["alone"], ["a/one", "b/two"]])
def test_an_archive_holds_one_folder(tmp_path: Path, names: list[str]) -> None:
    archive = archive_of(tmp_path / "bad.tar.zst", *(member(name) for name in names))
    with pytest.raises(CheckFailed, match="entries and not one folder"), bundle_folder(archive):
        pass


def test_an_archive_that_grows_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros shrink ten thousandfold, so that the size of an archive says nothing."""
    monkeypatch.setattr("bundling.received._LARGEST_BUNDLE", 10_000)
    archive = archive_of(tmp_path / "bomb.tar.zst", member("a/zeros"), content=bytes(10_001))
    assert archive.stat().st_size < 200
    with pytest.raises(CheckFailed, match="the archive holds more than"), bundle_folder(archive):
        pass


def test_many_empty_files_are_too_much_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundling.received._LARGEST_BUNDLE", 10_000)
    archive = archive_of(tmp_path / "bomb.tar.zst", *(member(f"a/{index}") for index in range(20)))
    with pytest.raises(CheckFailed, match="the archive holds more than"), bundle_folder(archive):
        pass


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    """`tarfile` reads long names as a whole, and 100 MB of zeros are a few kB in an archive."""
    header = member("a/long", tarfile.XHDTYPE)
    header.size = 100 * 2**20
    path = tmp_path / "bomb.tar.zst"
    path.write_bytes(ZstdCompressor().compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size)))
    with pytest.raises(CheckFailed, match="holds a header that is no file's"), bundle_folder(path):
        pass


@pytest.mark.parametrize("cut", [0, 10, 1000, -1])
def test_a_truncated_archive(written: WrittenBundle, tmp_path: Path, cut: int) -> None:
    assert written.archive is not None
    path = tmp_path / "cut.tar.zst"
    path.write_bytes(written.archive.read_bytes()[:cut])
    with pytest.raises(CheckFailed, match="is no archive of a bundle"), bundle_folder(path) as folder:
        checked_document(folder)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("no archive")
    with pytest.raises(CheckFailed, match=r"words\.txt is no archive"), bundle_folder(tmp_path / "words.txt"):
        pass


def test_a_replaced_file_needs_another_document(bundle_copy: Path) -> None:
    """Whoever replaces a file and its hash is found out by the sha256 of bundle.json, or by a signature."""
    replace_file(bundle_copy, "README.md", b"other words")
    checked_document(bundle_copy)
