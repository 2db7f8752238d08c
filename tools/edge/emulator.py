"""The emulator that runs programs for aarch64 on this machine: QEMU's user mode, version 10 or later.

QEMU 7.2, which Debian 12 has, ends ONNX Runtime with a segmentation fault. Where no newer one stands on the
path, the one of a later Debian is unpacked; its programs are linked statically and run on any release.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from errors import UserError
from tools.edge.debian_package import Wanted, unpack

OLDEST = 10
_NAME = "qemu-aarch64"
_PACKAGE = Wanted("qemu-user", f"install qemu-user {OLDEST} or later")


@dataclass(frozen=True)
class Emulator:
    """A program that runs programs for aarch64.

    Attributes:
        program: where the emulator lies.
        version: such as 10.0.13.
    """

    program: Path
    version: str


def find_emulator(folder: Path) -> Emulator:
    """The emulator on the path if it is new enough, else the one that is unpacked into `folder`.

    Raises:
        UserError: there is none that is new enough, and none can be fetched here.
    """
    for name in (_NAME, f"{_NAME}-static"):
        installed = shutil.which(name)
        if installed and (found := _new_enough(Path(installed))):
            return found
    return _new_enough(folder / _NAME) or _fetched(folder)


def _fetched(folder: Path) -> Emulator:
    folder.mkdir(parents=True, exist_ok=True)
    # The package takes 465 MB of disk, and one program of it is kept, so the rest is removed at once.
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        unpacked = unpack(_PACKAGE, Path(temporary)) / "usr/bin" / _NAME
        found = _new_enough(unpacked)
        if found is None:
            raise UserError(f"{_PACKAGE.package} of Debian holds no {_NAME} {OLDEST}", _PACKAGE.by_hand)
        unpacked.replace(folder / _NAME)
    return Emulator(folder / _NAME, found.version)


def _new_enough(program: Path) -> Emulator | None:
    if not program.is_file():
        return None
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"version (\d+)(\.\d+)*", printed)
    if version is None or int(version[1]) < OLDEST:
        return None
    return Emulator(program, version[0].removeprefix("version "))
