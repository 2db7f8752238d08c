"""Which TensorRT is installed: TensorRT for RTX, or TensorRT 10 and later.

Both have the same Python API for what is done here. They differ in where an engine may be built:
TensorRT for RTX compiles ahead of time for the compute capabilities it is given and needs no GPU;
TensorRT builds for the GPU of the machine it runs on.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from errors import UserError
from machine.gpu import gpus


def version_of(package: str) -> str | None:
    """Version of `tensorrt` or `tensorrt-rtx` as the module itself says it, None where it does not load.

    The module is asked, because `tensorrt` is installed by distributions of several names (`tensorrt`,
    `tensorrt-cu12`, `tensorrt-cu13`).
    """
    module = package.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return str(importlib.import_module(module).__version__)
    except (ImportError, OSError):
        return None


@dataclass(frozen=True)
class Builder:
    """An installed package that builds engines.

    Attributes:
        name: "rtx" or "tensorrt", as in `--builder` and engine file names.
        module: name to import.
        package: name of the distribution.
        title: for people.
    """

    name: str
    module: str
    package: str
    title: str

    @property
    def version(self) -> str | None:
        """Version of the installed package, None if it is not installed or does not load."""
        return version_of(self.package)

    @property
    def ahead_of_time(self) -> bool:
        """Whether it builds without a GPU, for chosen compute capabilities."""
        return self.name == "rtx"

    def load(self) -> ModuleType:
        """Import the package; UserError if it is not installed or its libraries do not load."""
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise UserError(
                f"{self.title} cannot be imported ({error})", f"pip install {self.package}"
            ) from error


BUILDERS = {
    "rtx": Builder("rtx", "tensorrt_rtx", "tensorrt-rtx", "TensorRT for RTX"),
    "tensorrt": Builder("tensorrt", "tensorrt", "tensorrt", "TensorRT"),
}


def installed_builder(name: str | None = None) -> Builder:
    """The builder asked for; if None, the one that suits this machine.

    With an NVIDIA GPU that is TensorRT, if installed; without one only TensorRT for RTX can build.

    Raises:
        UserError: not installed, unknown, or TensorRT without a GPU.
    """
    if name is not None and name not in BUILDERS:
        raise UserError(f"unknown builder '{name}'", f"use {' or '.join(BUILDERS)}")
    have_gpu = bool(gpus())
    order = [name] if name else (["tensorrt", "rtx"] if have_gpu else ["rtx", "tensorrt"])
    for candidate in order:
        builder = BUILDERS[candidate]
        if builder.version is None:
            continue
        if not builder.ahead_of_time and not have_gpu:
            raise UserError(
                "TensorRT builds engines for the GPU of this machine, and there is none",
                "pip install tensorrt-rtx, which builds ahead of time",
            )
        return builder
    raise UserError(
        f"{' and '.join(BUILDERS[c].title for c in order)} not installed",
        f"pip install {BUILDERS[order[0]].package} (Linux and Windows, x86-64)",
    )
