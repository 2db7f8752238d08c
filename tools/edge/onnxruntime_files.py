"""ONNX Runtime for C++: the library from the Python wheel, the headers from a Debian package.

The wheel of ONNX Runtime holds the shared library and no headers. Headers older than the library are safe,
because the C API is a table of functions that only ever grows: a program asks for the table of the version
it was compiled for, here 21, and any later library has it. Debian packs the headers of 1.21 since its
release 13. On an older Debian the package is unpacked without being installed (`debian_package.py`). This
file checks the SHA-256 of the header itself, so that the same header is compiled everywhere.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from errors import UserError
from tools.edge.debian_package import Wanted, unpack

HEADER = "onnxruntime_c_api.h"
# onnxruntime_c_api.h of ONNX Runtime 1.21.0, ORT_API_VERSION 21.
HEADER_SHA256 = "7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882"
_BY_HAND = f"put {HEADER} of ONNX Runtime 1.21 or later into a folder and name it with ONNXRUNTIME_INCLUDE"
_PACKAGE = Wanted("libonnxruntime-dev", _BY_HAND)


def lay_out(folder: Path, include: Path | None = None) -> None:
    """Fill `folder` with include/ and lib/, as edge/cmake/FindONNXRuntime.cmake looks for them.

    Args:
        include: a folder that holds the header; None: Debian's package is fetched, unless a checked header
            lies in `folder` already.

    Raises:
        UserError: the wheel has no library, or the header cannot be had here.
    """
    link_library(folder / "lib", library_of_wheel())
    if include is not None:
        _copy_headers(include, folder / "include")
    elif not _is_pinned(folder / "include" / HEADER):
        _fetch_headers(folder / "include")


def library_of_wheel() -> Path:
    """The shared library in the installed wheel, such as capi/libonnxruntime.so.1.31.1."""
    import onnxruntime

    found = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    if not found:
        raise UserError(
            f"the package onnxruntime {onnxruntime.__version__} holds no shared library for C++",
            "install onnxruntime-gpu (x86-64) or onnxruntime (aarch64) for Linux",
        )
    return found[-1]


def link_library(folder: Path, library: Path) -> None:
    """Link the library under its SONAME, which the loader asks for, and the name the linker asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1", library.name):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(library)


def _is_pinned(header: Path) -> bool:
    return header.is_file() and hashlib.sha256(header.read_bytes()).hexdigest() == HEADER_SHA256


def _copy_headers(source: Path, target: Path) -> None:
    if not (source / HEADER).is_file():
        raise UserError(f"{source} holds no {HEADER}", _BY_HAND)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _fetch_headers(target: Path) -> None:
    installed = Path("/usr/include/onnxruntime")
    if _is_pinned(installed / HEADER):
        _copy_headers(installed, target)
        return
    with tempfile.TemporaryDirectory() as temporary:
        headers = unpack(_PACKAGE, Path(temporary)) / "usr/include/onnxruntime"
        if not _is_pinned(headers / HEADER):
            raise UserError(
                f"{_PACKAGE.package} no longer holds the {HEADER} that is pinned in {__file__}", _BY_HAND
            )
        _copy_headers(headers, target)
