"""What npm gives is taken only if it is what was pinned; a script stands in for npm."""

import base64
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bundling import onnxruntime_web
from bundling.onnxruntime_web import runtime_from_npm
from errors import CheckFailed, UserError

CONTENT = {
    "package/dist/ort.wasm.bundle.min.mjs": b"export default 1;",
    "package/dist/ort-wasm-simd-threaded.wasm": b"\0asm",
    "package/package.json": b"{}",
    "package/README.md": b"# ONNX Runtime",
    "package/dist/ort.webgpu.mjs": b"not needed",
}


def _archive(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script named npm before all other programs; $4 is the folder that it is to write into."""

    def install(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive whose hash is the pinned one."""
    path = tmp_path / "package.tgz"
    path.write_bytes(_archive(CONTENT))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", f"sha512-{digest}")
    return path


def test_files_that_the_page_needs_are_taken(
    npm: Callable[[str], None], package: Path, tmp_path: Path
) -> None:
    npm(f'echo "$@" > {tmp_path}/asked; cp {package} "$4/onnxruntime-web.tgz"')
    assert runtime_from_npm() == {
        "ort.wasm.bundle.min.js": b"export default 1;",
        "ort-wasm-simd-threaded.wasm": b"\0asm",
        "package.json": b"{}",
        "README.md": b"# ONNX Runtime",
    }
    assert (tmp_path / "asked").read_text().startswith(f"pack onnxruntime-web@{onnxruntime_web.VERSION} ")


def test_another_package_is_refused(npm: Callable[[str], None], package: Path) -> None:
    npm(f'cp {package} "$4/onnxruntime-web.tgz"; echo more >> "$4/onnxruntime-web.tgz"')
    with pytest.raises(CheckFailed, match=r"another onnxruntime-web@.*its sha512 differs"):
        runtime_from_npm()


def test_missing_npm_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is not installed") as refusal:
        runtime_from_npm()
    assert "Node.js" in refusal.value.fix


def test_failure_of_npm_is_said_in_its_words(npm: Callable[[str], None]) -> None:
    npm('echo "npm error network request failed" >&2; exit 1')
    with pytest.raises(UserError, match=r"npm cannot fetch .* \(npm error network request failed\)"):
        runtime_from_npm()


def test_npm_that_writes_nothing_is_a_failure(npm: Callable[[str], None]) -> None:
    npm("exit 0")
    with pytest.raises(UserError, match=r"npm cannot fetch .* \(status 0\)"):
        runtime_from_npm()


def test_npm_that_does_not_answer_is_given_up(
    npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_web, "_SECONDS", 0.2)
    npm("exec sleep 5")
    with pytest.raises(UserError, match="did not fetch"):
        runtime_from_npm()
