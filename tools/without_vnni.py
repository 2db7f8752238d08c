"""Copy an environment so that its libraries take this CPU for one with AVX2 and no VNNI.

    python tools/without_vnni.py FOLDER [--environment .venv]
    FOLDER/python benchmarks/int8_peers.py …
    FOLDER/python -m pytest -m "not slow"

ONNX Runtime, OpenVINO and PyTorch choose their kernels by the instruction cpuid, and no setting of these
libraries changes all of their choices. The script replaces every cpuid in the copied libraries by ud0, an
undefined instruction of the same length. The operating system answers ud0 with a signal, and the preloaded
`without_vnni.c` handles the signal: it reports the CPU's features without AVX512, VNNI and AMX.

The libraries then run the kernels of a CPU that has AVX2 only, whose 16-bit sums saturate, so the logits are
those of such a CPU. The latencies are not: the AVX2 kernels run at the pace of this CPU, and a ratio of two
latencies only hints at the ratio on an old CPU. Tables name the CPU as "without its AVX512-VNNI, …".

The script needs Linux on x86-64, gcc and objdump, and takes two minutes. A file that does not change becomes
a hard link.
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

# The libraries of each package that choose kernels.
LIBRARIES = {
    "onnxruntime": ("capi/onnxruntime_pybind11_state.*.so", "capi/libonnxruntime.so.*"),
    "openvino": ("libs/libopenvino.so.*", "libs/libopenvino_intel_cpu_plugin.so"),
    "torch": ("lib/libc10.so", "lib/libtorch_cpu.so"),
}
CPUID, UD0 = b"\x0f\xa2", b"\x0f\xff"
_SOURCE = Path(__file__).with_suffix(".c")
# `objdump --section-headers` prints number, name, size, address, load address and offset in the file.
_SECTION = re.compile(r"^\s*\d+ (\S+)\s+([0-9a-f]+)\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)")
# An instruction may have prefixes, such as "rex.W cpuid".
_CPUID = re.compile(r"^\s*([0-9a-f]+):\s+(?:\S+ )*cpuid\s*$")


def main() -> None:
    """Copy the environment, and show what its libraries find of this CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the copy; must not exist")
    parser.add_argument(
        "--environment",
        type=Path,
        default=Path(sys.prefix),
        help="virtual environment to copy; default: the one that runs this",
    )
    arguments = parser.parse_args()
    if missing := what_is_missing():
        parser.error(missing)
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists: choose another folder, or remove it")
    if any(character.isspace() for character in str(arguments.folder.resolve())):
        parser.error(
            f"LD_PRELOAD takes no path with a space, such as {arguments.folder.resolve()}: choose another"
        )
    if arguments.folder.resolve().is_relative_to(arguments.environment.resolve()):
        parser.error(
            f"{arguments.folder} lies in {arguments.environment}, which is to be copied: choose another"
        )
    if not (arguments.environment / "pyvenv.cfg").is_file():
        parser.error(
            f"--environment {arguments.environment} is not a virtual environment: make one with `make setup`"
        )
    launcher = copy_of(arguments.environment, arguments.folder)
    subprocess.run([launcher, "cli.py", "doctor"], check=True, cwd=Path(__file__).parents[1])
    print(f"use      {launcher}")


def what_is_missing() -> str:
    """Say what the script needs and this machine lacks; the text is empty if nothing is missing."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "this needs Linux on x86-64"
    tools = [tool for tool in ("gcc", "objdump") if shutil.which(tool) is None]
    return f"this needs {' and '.join(tools)}: install gcc and binutils" if tools else ""


def copy_of(environment: Path, folder: Path, packages: Collection[str] = tuple(LIBRARIES)) -> Path:
    """Copy a virtual environment into a new folder, and return the interpreter to use there.

    Raises:
        RuntimeError: a library is not there, or contains no cpuid, so that it would choose the same kernels
            as ever. The copy is removed then.
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
            raise RuntimeError(f"{package}/{pattern} is not there, or contains no cpuid")
        for name, count in counts.items():
            print(f"changed  {count:3} cpuid of {name}", flush=True)


def preloaded(folder: Path) -> Path:
    """Compile `without_vnni.c`, which answers in the place of cpuid, and return the library to preload."""
    library = folder / "without_vnni.so"
    command = ["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


def hide_cpuid(library: Path) -> int:
    """Put ud0 in the place of every cpuid of a shared library, and return how many there were.

    A new file takes the place of the old one, because the old one may have hard links elsewhere, which must
    not change.

    Raises:
        RuntimeError: objdump names an offset at which the file has no cpuid.
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
    """Yield the offset of each cpuid in the file.

    The library is disassembled, because the two bytes 0f a2 also stand inside other instructions.
    """
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
        # A section that is never loaded, such as .comment, has the address 0.
        if addresses.start and address in addresses:
            return address - addresses.start + offset
    raise RuntimeError(f"{address:#x} is in no section that objdump names")


def link(source: str, target: str) -> str:
    """Make a hard link, or a copy where a link is not possible; a `copy_function` of `shutil.copytree`."""
    try:
        os.link(source, target)
    except OSError:
        # The target lies on another file system.
        shutil.copy2(source, target)
    return target


if __name__ == "__main__":
    main()
