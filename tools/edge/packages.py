"""The compilers, tools and headers that edge/ is built with: what is missing, and its installation.

A header counts as present if the C++ compiler finds it, and a tool if it stands on the path, wherever they
came from. What is missing is installed from the package manager of Debian and Ubuntu, as root or with a
`sudo` that asks no password. On any other machine one line says what to install.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from errors import UserError


@dataclass(frozen=True)
class Need:
    """One thing that the build uses.

    Attributes:
        packages: the names of alternatives on Debian and Ubuntu; the first one that exists is installed.
        present: whether the machine has the thing already.
    """

    packages: tuple[str, ...]
    present: Callable[[], bool]


def tool(name: str) -> Callable[[], bool]:
    """A probe for a program on the path."""
    return lambda: shutil.which(name) is not None


def header(name: str) -> Callable[[], bool]:
    """A probe for a header that the C++ compiler finds without further options."""
    return lambda: shutil.which("c++") is not None and _compiler_has(name)


def _compiler_has(name: str) -> bool:
    source = f"#if !__has_include(<{name}>)\n#error missing\n#endif\n"
    command = ["c++", "-std=c++17", "-x", "c++", "-E", "-", "-o", os.devnull]
    return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0


def clang_runtimes() -> bool:
    """Clang's libraries for sanitizers and libFuzzer, which Debian packs apart from the compiler."""
    if shutil.which("clang++") is None:
        return False
    found = subprocess.run(["clang++", "-print-resource-dir"], capture_output=True, text=True, check=True)
    return any(Path(found.stdout.strip()).glob("lib/*/libclang_rt.fuzzer*.a"))


NEEDS = (
    Need(("g++",), tool("g++")),
    Need(("clang",), tool("clang++")),
    Need(("libclang-rt-dev", "libclang-rt-14-dev", "clang"), clang_runtimes),
    Need(("g++-aarch64-linux-gnu",), tool("aarch64-linux-gnu-g++")),
    Need(("cmake",), tool("cmake")),
    Need(("ninja-build",), tool("ninja")),
    Need(("nlohmann-json3-dev",), header("nlohmann/json.hpp")),
    Need(("doctest-dev",), header("doctest/doctest.h")),
    Need(("libcli11-dev",), header("CLI/CLI.hpp")),
    Need(("libpng-dev",), header("png.h")),
    Need(("libjpeg62-turbo-dev", "libjpeg-dev"), header("jpeglib.h")),
)


def install_packages(needs: Iterable[Need] = NEEDS) -> tuple[str, ...]:
    """Install what is missing, and return the names of the packages that were installed.

    Raises:
        UserError: something is missing and this process cannot install it; the error names the packages.
    """
    missing = [need for need in needs if not need.present()]
    if not missing:
        return ()
    prefix = prefix_of_root()
    if prefix is None:
        names = " ".join(need.packages[0] for need in missing)
        raise UserError(
            "packages are missing on this machine, and this user may not install them",
            f"install {names} (Debian's and Ubuntu's names) and start again",
        )
    _run([*prefix, "apt-get", "update", "-qq"])
    names = sorted({_available(need.packages) for need in missing})
    _run([*prefix, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *names])
    _insist(missing)
    return tuple(names)


def prefix_of_root() -> list[str] | None:
    """What to put before apt-get so that it may install: nothing for root; None if there is no way."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def _available(packages: tuple[str, ...]) -> str:
    for name in packages:
        shown = subprocess.run(["apt-cache", "show", "--quiet", name], capture_output=True, check=False)
        if shown.returncode == 0 and shown.stdout:
            return name
    return packages[0]


def _run(command: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(
            f"`{' '.join(command)}` failed: {' '.join(last)}", "run the command by hand and mend its cause"
        )


def _insist(needs: list[Need]) -> None:
    if lacking := [need.packages[0] for need in needs if not need.present()]:
        names = ", ".join(lacking)
        raise UserError(
            f"the packages were installed, but the compiler still finds no trace of {names}",
            "check that c++ and clang++ on the path are those of the system",
        )
