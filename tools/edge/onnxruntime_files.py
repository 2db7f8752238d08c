"""ONNX Runtime for C++: the library from the Python wheel, the headers from a Debian package.

The wheel of ONNX Runtime holds the shared library and no headers. Headers older than the library are safe,
because the C API is a table of functions that only ever grows: a program asks for the table of the version
it was compiled for, here 21, and any later library has it. Debian packs the headers of 1.21 since its
release 13. On an older Debian the package is read from the same mirror with a private list of sources, and
unpacked without being installed. apt checks Debian's signature, and this file checks the SHA-256 of the
header itself, so that the same header is compiled everywhere.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from errors import UserError

PACKAGE = "libonnxruntime-dev"
HEADER = "onnxruntime_c_api.h"
# onnxruntime_c_api.h of ONNX Runtime 1.21.0, ORT_API_VERSION 21.
HEADER_SHA256 = "7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882"
# The first Debian release that has the package.
RELEASE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_BY_HAND = f"put {HEADER} of ONNX Runtime 1.21 or later into a folder and name it with ONNXRUNTIME_INCLUDE"


def lay_out(folder: Path, include: Path | None = None) -> None:
    """Fill `folder` with include/ and lib/, as edge/cmake/FindONNXRuntime.cmake looks for them.

    Args:
        include: a folder that holds the header; None: Debian's package is fetched, unless a checked header
            lies in `folder` already.

    Raises:
        UserError: the wheel has no library, or the header cannot be had here.
    """
    _link_library(folder / "lib", library_of_wheel())
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


def _link_library(folder: Path, library: Path) -> None:
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
        headers = _unpacked(Path(temporary)) / "usr/include/onnxruntime"
        if not _is_pinned(headers / HEADER):
            raise UserError(f"{PACKAGE} no longer holds the {HEADER} that is pinned in {__file__}", _BY_HAND)
        _copy_headers(headers, target)


def _unpacked(folder: Path) -> Path:
    """Download Debian's package with lists and caches of its own, and unpack it into a folder."""
    options = _private_sources(folder)
    _apt([*options, "update"], folder)
    _apt([*options, "download", PACKAGE], folder)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
    return folder / "unpacked"


def _private_sources(folder: Path) -> list[str]:
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_debian_mirror()} {RELEASE} main\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        # The temporary folder belongs to this user, not to apt's own.
        "APT::Sandbox::User": "",
    }
    return [f"-o{name}={value}" for name, value in settings.items()]


def _debian_mirror() -> str:
    """The mirror that this machine's own configuration names for Debian's main archive."""
    if shutil.which("apt-get") is None:
        raise UserError(
            f"the headers of ONNX Runtime are missing, and there is no apt-get for {PACKAGE}", _BY_HAND
        )
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(SUITE)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for origin, site, suite in (line.split(" ", 2) for line in listed):
        if origin == "Debian" and not suite.endswith(("-security", "-updates", "-backports")):
            return site
    raise UserError(
        f"the headers of ONNX Runtime come from {PACKAGE} of Debian, and apt knows no mirror of Debian here",
        _BY_HAND,
    )


def _apt(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise UserError(f"apt-get {arguments[-1]} failed for {PACKAGE} of {RELEASE}: {last}", _BY_HAND)
