"""Find the TensorRT package that is installed: TensorRT for RTX, or TensorRT 10 and later.

Both packages have the same Python API for everything that skipfold does. They differ in where an engine
can be built: TensorRT for RTX compiles ahead of time for the compute capabilities that it is given and needs
no GPU, whereas TensorRT builds for the GPU of the machine that it runs on.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from errors import UserError
from machine.gpu import gpus
from vocabulary import BuilderName


def version_of(package: str) -> str | None:
    """Version of `tensorrt` or `tensorrt-rtx` as the module itself says it, None where it does not load.

    The module is asked, because `tensorrt` is installed by distributions of several names (`tensorrt`,
    `tensorrt-cu12`, `tensorrt-cu13`).
    """
    module = package.replace("-", "_")
    if not is_installed(module):
        return None
    try:
        return str(importlib.import_module(module).__version__)
    except (ImportError, OSError):
        return None


def is_installed(module: str) -> bool:
    """Whether a module is there to be imported; its libraries may still fail to load."""
    spec = importlib.util.find_spec(module)
    # A folder of that name, without a package in it, has no origin.
    return spec is not None and spec.origin is not None


@dataclass(frozen=True)
class Builder:
    """A package that builds engines.

    Attributes:
        name: the name in `--builder` and in the file names of engines.
        module: the name of the module to import.
        package: the name of the distribution to install.
        title: the name in messages.
    """

    name: BuilderName
    module: str
    package: str
    title: str

    @property
    def is_installed(self) -> bool:
        """Whether the package is there; its libraries may still fail to load."""
        return is_installed(self.module)

    @property
    def version(self) -> str | None:
        """The version of the installed package; None if it is not installed or does not load."""
        return version_of(self.package)

    @property
    def ahead_of_time(self) -> bool:
        """Whether the package builds without a GPU, for the compute capabilities that it is given."""
        return self.name == BuilderName.rtx

    def load(self) -> ModuleType:
        """Import the package.

        Raises:
            UserError: the package is not installed, or its libraries do not load.
        """
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise UserError(
                f"{self.title} cannot be imported ({error})", f"pip install {self.package}"
            ) from error


BUILDERS: Mapping[str, Builder] = {
    BuilderName.rtx: Builder(BuilderName.rtx, "tensorrt_rtx", "tensorrt-rtx", "TensorRT for RTX"),
    BuilderName.tensorrt: Builder(BuilderName.tensorrt, "tensorrt", "tensorrt", "TensorRT"),
}


def installed_builder(name: str | None = None) -> Builder:
    """Return the builder `name`, or the builder that suits this machine if `name` is None.

    On a machine with an NVIDIA GPU that is TensorRT, if it is installed, and otherwise TensorRT for RTX.
    Without a GPU only TensorRT for RTX can build.

    Raises:
        UserError: the builder is unknown or not installed, or it is TensorRT and there is no GPU.
    """
    if name is not None and name not in BUILDERS:
        raise UserError(f"unknown --builder '{name}'", f"use {' or '.join(BUILDERS)}")
    have_gpu = bool(gpus())
    candidates = [BUILDERS[name]] if name else _in_order_of_choice(have_gpu)
    for builder in candidates:
        if builder.version is None:
            continue
        if not builder.ahead_of_time and not have_gpu:
            raise UserError(
                "TensorRT builds engines for the GPU of this machine, and this machine has no GPU",
                "pip install tensorrt-rtx, which builds ahead of time",
            )
        return builder
    titles = " and ".join(builder.title for builder in candidates)
    raise UserError(
        f"{titles} {'is' if len(candidates) == 1 else 'are'} not installed",
        f"pip install {candidates[0].package} (Linux and Windows, x86-64)",
    )


def _in_order_of_choice(have_gpu: bool) -> list[Builder]:
    rtx, tensorrt = BUILDERS[BuilderName.rtx], BUILDERS[BuilderName.tensorrt]
    return [tensorrt, rtx] if have_gpu else [rtx, tensorrt]
