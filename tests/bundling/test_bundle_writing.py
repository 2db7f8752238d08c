"""Folders and archives of bundles."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from command_line import snapshot
from zstandard import ZstdDecompressor

from bundling.assemble import Bundle
from bundling.closed_folder import with_list
from bundling.writing import require_place, write_archive, write_bundle, write_folder
from errors import UserError
from workflow.bundle import WrittenBundle

CONTENT = {"README.md": b"words", "models/model.onnx": b"graph"}


@pytest.fixture
def bundle(written: WrittenBundle) -> Bundle:
    """What `written` was written from, so that a check of the folder passes."""
    return Bundle(written.document, {n: c for n, c in snapshot(written.folder).items() if n != "bundle.json"})


def test_a_bundle_replaces_a_bundle_as_a_whole(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    for _ in range(2):
        write_bundle(bundle, out)
        assert snapshot(out) == {**bundle.files, "bundle.json": bundle.text}
        assert [path.name for path in out.parent.iterdir()] == ["folder"]


def test_a_listed_folder_replaces_one_as_a_whole(tmp_path: Path) -> None:
    write_folder({"of/the/former": b""}, tmp_path / "out")
    write_folder(CONTENT, tmp_path / "out")
    assert snapshot(tmp_path / "out") == with_list(CONTENT)


@pytest.mark.parametrize("name", ["thesis.txt", "models/mine.onnx", ".git"])
def test_a_bundle_with_a_file_of_the_user_is_not_replaced(bundle: Bundle, tmp_path: Path, name: str) -> None:
    write_bundle(bundle, tmp_path / "out")
    (tmp_path / "out" / name).write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=f"{name} is not listed in bundle.json") as refusal:
        write_bundle(bundle, tmp_path / "out")
    assert "move away what is there" in refusal.value.fix
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "files",
    [
        {"bundle.json": '{"name": "a web project"}', "thesis.txt": "years of work"},
        {"bundle.json": "{}"},
        {"page.json": "{}", "mine.html": ""},
        {"digits/config.pbtxt": "", "files.json": "{}"},
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_a_folder_of_the_user_is_not_replaced(
    bundle: Bundle, tmp_path: Path, files: dict[str, str], listed: bool
) -> None:
    """Other programs, too, call a file bundle.json."""
    for name, text in files.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="out is there and is no"):
        write_folder(CONTENT, tmp_path / "out") if listed else write_bundle(bundle, tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_an_archive_of_the_user_is_not_replaced(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "out")
    (tmp_path / "out.tar.zst").write_bytes(b"a backup")
    with pytest.raises(UserError, match=r"out\.tar\.zst is there and is no archive of a bundle"):
        write_archive(tmp_path / "out")
    assert (tmp_path / "out.tar.zst").read_bytes() == b"a backup"


@pytest.mark.parametrize("places", [(True, False, False), (False, True, False), (False, False, True)])
def test_what_lies_in_the_way_beside_a_bundle_is_said_at_once(
    tmp_path: Path, places: tuple[bool, bool, bool]
) -> None:
    require_place(tmp_path / "out", True, True, True)
    for name in ("out.tar.zst", "out-triton", "out-web"):
        (tmp_path / name).write_text("mine")
    require_place(tmp_path / "out", False, False, False)
    with pytest.raises(UserError, match="is there and is no"):
        require_place(tmp_path / "out", *places)


@pytest.mark.parametrize("place", [".", "..", "/", "folder/.."])
def test_a_place_without_a_name_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="has no name of its own"):
        require_place(Path(place), False, False, False)


@pytest.mark.parametrize("moment", [1, 2])
def test_a_stop_between_two_names_keeps_the_former_bundle(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Ctrl-C, once before the former folder is moved away and once before the new one has its name."""
    write_bundle(bundle, tmp_path / "out")
    before, rename, calls = snapshot(tmp_path), Path.rename, []

    def stopping(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == moment:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle, tmp_path / "out")
    assert snapshot(tmp_path) == before


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


@pytest.mark.parametrize("target", ["nowhere", "empty"])
def test_a_link_is_not_followed(bundle: Bundle, tmp_path: Path, target: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"link is there and is no bundle .*\(it is a link\)"):
        write_bundle(bundle, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_nothing_is_left_where_writing_fails(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(bundle, tmp_path / "out")
    before = snapshot(tmp_path)

    def fails(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("bundling.writing.write_flushed", fails)
    with pytest.raises(UserError, match="No space left on device") as refusal:
        write_bundle(bundle, tmp_path / "out")
    assert "run-dir" not in refusal.value.fix
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
