"""ONNX Runtime's library for aarch64, from its wheel: pip downloads the wheel and checks its SHA-256.

The version is the one that requirements.txt installs here, because a bundle that was verified with it is to
be opened. A test compares the two.
"""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from tools.edge.onnxruntime_files import link_library
from tools.edge.steps import run

VERSION = "1.31.1"
# onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64.whl; the library is the same for every Python.
WHEEL_SHA256 = "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3"
_WHEEL = ("--platform", "manylinux_2_28_aarch64", "--python-version", "3.11", "--implementation", "cp")


def lay_out_aarch64(folder: Path, include: Path) -> None:
    """Fill `folder` with include/ and lib/, as edge/cmake/FindONNXRuntime.cmake looks for them.

    Args:
        include: the headers, which are the same for every CPU.

    Raises:
        CheckFailed: pip cannot download the wheel, or the wheel has another SHA-256.
    """
    library = folder / "wheel" / f"libonnxruntime.so.{VERSION}"
    if not library.is_file():
        _fetch(library)
    link_library(folder / "lib", library)
    shutil.copytree(include, folder / "include", dirs_exist_ok=True)


def _fetch(library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as temporary:
        (wheel,) = _downloaded(Path(temporary)).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            unpacked = files.extract(f"onnxruntime/capi/{library.name}", temporary)
        Path(unpacked).replace(library)


def _downloaded(folder: Path) -> Path:
    pinned = folder / "pinned.txt"
    pinned.write_text(f"onnxruntime=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *_WHEEL]
    command = [*pip, "--require-hashes", "--requirement", str(pinned), "--dest", str(folder)]
    run(command, folder.parent / "download.log")
    return folder
