"""Copy an environment so that its libraries take this CPU for one with AVX2 and no VNNI.

    python tools/without_vnni.py FOLDER [--environment .venv]
    FOLDER/python benchmarks/int8_peers.py …
    FOLDER/python -m pytest -m "not slow"

ONNX Runtime, OpenVINO and PyTorch choose their kernels by the instruction cpuid, and no setting of theirs
changes all of that. In the copy every cpuid of their libraries is ud0, an undefined instruction of the same
length, and `without_vnni.c`, preloaded, answers in its place: with AVX512, VNNI and AMX left out.

What runs then is what runs on a CPU that has AVX2 only, saturating 16-bit sums and all: its numbers are of
such a CPU. Latencies are those of its kernels at this CPU's pace; a ratio of two is a hint of that other
CPU's, and no measurement of it. Tables name the CPU as "without its AVX512-VNNI, …".

Needs Linux on x86-64, gcc and objdump; takes two minutes. Files that stay as they are become hard links.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

# By package, all that choose kernels.
LIBRARIES = {
    "onnxruntime": ("capi/onnxruntime_pybind11_state.*.so", "capi/libonnxruntime.so.*"),
    "openvino": ("libs/libopenvino.so.*", "libs/libopenvino_intel_cpu_plugin.so"),
    "torch": ("lib/libc10.so", "lib/libtorch_cpu.so"),
}
CPUID, UD0 = b"\x0f\xa2", b"\x0f\xff"
_SOURCE = Path(__file__).with_suffix(".c")
# Of `objdump --section-headers`: number, name, size, address, address at load, offset in the file.
_SECTION = re.compile(r"^\s*\d+ (\S+)\s+([0-9a-f]+)\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)")
# Whatever prefixes it has.
_CPUID = re.compile(r"^\s*([0-9a-f]+):\s+(?:\S+ )*cpuid\s*$")


def main() -> None:
    """Copy, and show what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the copy; must not exist")
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix), help="default: this one")
    arguments = parser.parse_args()
    if missing := what_is_missing():
        parser.error(missing)
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists: choose another folder, or remove it")
    if any(character.isspace() for character in str(arguments.folder.resolve())):
        parser.error(f"LD_PRELOAD takes no path with spaces, as that of {arguments.folder}: choose another")
    if arguments.folder.resolve().is_relative_to(arguments.environment.resolve()):
        parser.error(f"{arguments.folder} lies in the environment it is to be a copy of: choose another")
    if not (arguments.environment / "pyvenv.cfg").is_file():
        parser.error(f"{arguments.environment} is no virtual environment: make one with `make setup`")
    launcher = copy_of(arguments.environment, arguments.folder)
    subprocess.run([launcher, "cli.py", "doctor"], check=True, cwd=Path(__file__).parents[1])
    print(f"use      {launcher}")


def what_is_missing() -> str:
    """What this needs and does not find; empty if all is there."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "this needs Linux on x86-64"
    tools = [tool for tool in ("gcc", "objdump") if shutil.which(tool) is None]
    return f"this needs {' and '.join(tools)}: install gcc and binutils" if tools else ""


def copy_of(environment: Path, folder: Path, packages: Collection[str] = tuple(LIBRARIES)) -> Path:
    """Copy a virtual environment into a new folder, and return the interpreter to use there.

    Raises:
        RuntimeError: one of the libraries is not there, or does not ask cpuid, so that it would run as it
            always does. Nothing is left then.
    """
    folder = folder.resolve()
    try:
        shutil.copytree(environment, folder, symlinks=True, copy_function=link)
        for package in packages:
            _change(package, next(folder.glob("lib/python*/site-packages")))
        answers = preloaded(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    launcher = folder / "python"
    launcher.write_text(f'#!/bin/sh\nLD_PRELOAD="{answers}" exec "{folder}/bin/python" "$@"\n')
    launcher.chmod(0o755)
    return launcher


def _change(package: str, site_packages: Path) -> None:
    for pattern in LIBRARIES[package]:
        counts = {library.name: hide_cpuid(library) for library in (site_packages / package).glob(pattern)}
        if not (counts and all(counts.values())):
            raise RuntimeError(f"{package}/{pattern} is not there, or does not ask cpuid")
        for name, count in counts.items():
            print(f"changed  {count:3} cpuid of {name}", flush=True)


def preloaded(folder: Path) -> Path:
    """Compile what answers for cpuid, and return the library to preload."""
    library = folder / "without_vnni.so"
    command = ["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


def hide_cpuid(library: Path) -> int:
    """Put ud0 in the place of every cpuid of a shared library, and return how many there were.

    The file is replaced, so that others which are hard links to it stay as they are.

    Raises:
        RuntimeError: the disassembler and the file disagree.
    """
    code = bytearray(library.read_bytes())
    offsets = list(_offsets_of_cpuid(library))
    for offset in offsets:
        if code[offset : offset + 2] != CPUID:
            raise RuntimeError(f"{library}: no cpuid at {offset:#x}, where objdump has one")
        code[offset : offset + 2] = UD0
    mode = library.stat().st_mode
    library.unlink()
    library.write_bytes(code)
    library.chmod(mode)
    return len(offsets)


def _offsets_of_cpuid(library: Path) -> Iterator[int]:
    """Where in the file. Disassembled, since these two bytes stand in other instructions, too."""
    command = ["objdump", "--section-headers", "--disassemble", "--no-show-raw-insn", str(library)]
    sections: list[tuple[range, int]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        for line in listing.stdout:
            if line.startswith("Disassembly"):
                break
            if header := _SECTION.match(line):
                size, start, offset = (int(number, 16) for number in header.groups()[1:])
                sections.append((range(start, start + size), offset))
        # Millions of lines, and so the pattern is tried on those alone that hold the word.
        for line in listing.stdout:
            if "cpuid" in line and (instruction := _CPUID.match(line)):
                yield _offset(int(instruction[1], 16), sections)
    if listing.returncode != 0:
        raise RuntimeError(f"objdump failed on {library}")


def _offset(address: int, sections: list[tuple[range, int]]) -> int:
    for addresses, offset in sections:
        # A section of no memory, such as comments, starts at 0.
        if addresses.start and address in addresses:
            return address - addresses.start + offset
    raise RuntimeError(f"{address:#x} is in no section that objdump names")


def link(source: str, target: str) -> str:
    """Copy a file as a hard link where that is possible; for `shutil.copytree`."""
    try:
        os.link(source, target)
    except OSError:
        # Another file system.
        shutil.copy2(source, target)
    return target


if __name__ == "__main__":
    main()
