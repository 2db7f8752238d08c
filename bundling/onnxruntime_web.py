"""ONNX Runtime for browsers, from the npm package onnxruntime-web.

The package is fetched by the machine's own npm when a page is made, and is no part of skipfold. Its version
is pinned, and its hash is compared with the one that the npm registry published for that version.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from errors import CheckFailed, UserError

VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# What the page needs, under the names that it has there. A script is named .js, because some servers do not
# know that .mjs is JavaScript, and browsers refuse a script that is sent as something else.
_FILES: Mapping[str, str] = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
    # These two name the authors and the licence, which is MIT.
    "package/package.json": "package.json",
    "package/README.md": "README.md",
}
_SECONDS = 600


def runtime_from_npm() -> dict[str, bytes]:
    """Return the files of ONNX Runtime that a page needs, by their names in the page's folder `ort`.

    Raises:
        UserError: npm is not installed, or cannot fetch the package.
        CheckFailed: the package is not the one that was pinned.
    """
    package = f"onnxruntime-web@{VERSION}"
    with tempfile.TemporaryDirectory(prefix="skipfold-") as folder:
        archive = _packed(package, Path(folder))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise CheckFailed(
                f"npm gave another {package} than the one that skipfold was tested with (its sha512 differs)",
                "ask whoever runs the npm registry that this machine uses",
            )
        with tarfile.open(archive) as tar:
            return {name: _content(tar, member) for member, name in _FILES.items()}


def _packed(package: str, folder: Path) -> Path:
    """Have npm fetch a package into a folder, and return the archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "npm is not installed, and --web takes ONNX Runtime for browsers from it",
            "install Node.js, which brings npm, or leave out --web",
        )
    command = [npm, "pack", package, "--pack-destination", str(folder), "--silent"]
    environment = os.environ | {"npm_config_update_notifier": "false"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"npm did not fetch {package} in {_SECONDS // 60} minutes", "check the network"
        ) from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(
            f"npm cannot fetch {package} ({said[0] if said else f'status {done.returncode}'})",
            f"try `npm pack {package}` by hand, or leave out --web",
        )
    return archives[0]


def _content(tar: tarfile.TarFile, member: str) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()
