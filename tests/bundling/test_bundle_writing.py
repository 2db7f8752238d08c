"""Folders and archives of bundles."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from command_line import snapshot
from zstandard import ZstdDecompressor

from bundling.assemble import Bundle
from bundling.document import BundleDocument
from bundling.writing import write_archive, write_bundle
from errors import UserError
from workflow.bundle import WrittenBundle


@pytest.fixture
def bundle(bundle_document: BundleDocument) -> Bundle:
    return Bundle(bundle_document, {"README.md": b"words", "models/model.onnx": b"graph"})


CONTENT = {"README.md": b"words", "models/model.onnx": b"graph"}


def test_a_bundle_replaces_a_bundle_as_a_whole(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    write_bundle(bundle, out)
    (out / "models/of-the-former.onnx").write_bytes(b"")
    write_bundle(bundle, out)
    assert snapshot(out) == {**CONTENT, "bundle.json": bundle.text}
    assert [path.name for path in out.parent.iterdir()] == ["folder"]


def test_an_empty_folder_is_filled(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_bundle(bundle, tmp_path / "out")
    assert "bundle.json" in snapshot(tmp_path / "out")


@pytest.mark.parametrize(
    "make", [Path.write_text, lambda path, text: path.mkdir() or (path / "own").write_text(text)]
)
def test_what_is_no_bundle_is_not_replaced(bundle: Bundle, tmp_path: Path, make: object) -> None:
    out = tmp_path / "thesis"
    make(out, "years of work")  # type: ignore[operator]
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="thesis is there and is no bundle"):
        write_bundle(bundle, out)
    assert snapshot(tmp_path) == before


def test_a_link_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="dangling is there and is no bundle"):
        write_bundle(bundle, tmp_path / "dangling")
    assert os.path.lexists(tmp_path / "dangling")


def test_nothing_is_left_where_writing_fails(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(bundle, tmp_path / "out")
    before = snapshot(tmp_path)

    def fails(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("bundling.writing.write_flushed", fails)
    with pytest.raises(UserError, match="No space left on device"):
        write_bundle(bundle, tmp_path / "out")
    assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def members_of(archive: Path) -> dict[str, tarfile.TarInfo]:
    content = ZstdDecompressor().decompress(archive.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar}


def test_an_archive_says_nothing_of_this_machine(written: WrittenBundle) -> None:
    assert written.archive == written.folder.with_name("small.tar.zst")
    members = members_of(written.archive)
    assert list(members) == sorted(f"small/{name}" for name in snapshot(written.folder))
    for member in members.values():
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert (member.mode, member.isreg()) == (0o644, True)


def test_an_archive_does_not_depend_on_times_and_modes(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "out")
    first = write_archive(tmp_path / "out").read_bytes()
    for path in (tmp_path / "out").rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    assert write_archive(tmp_path / "out").read_bytes() == first


def test_an_archive_is_unpacked_to_the_folder(written: WrittenBundle, tmp_path: Path) -> None:
    assert written.archive is not None
    content = ZstdDecompressor().decompress(written.archive.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(tmp_path, filter="data")
    assert snapshot(tmp_path / "small") == snapshot(written.folder)
