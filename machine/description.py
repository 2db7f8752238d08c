"""The machine that a figure was measured on, in words. Every table of results carries it."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from artifacts.versions import version_of
from machine.cpu import available_threads, cpu_name, instruction_sets
from machine.gpu import gpus

_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt", "numpy")


@dataclass(frozen=True)
class Machine:
    """CPU model, instruction sets that decide INT8 results and bfloat16 speed, cores and GPUs.

    The CPU's name says if instruction sets are hidden from the libraries (`tools/without_vnni.py`).
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    gpus: tuple[str, ...]
    system: str

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON file gives them back, with lists instead of tuples."""
        return asdict(self) | {"instruction_sets": list(self.instruction_sets), "gpus": list(self.gpus)}

    @property
    def processor(self) -> str:
        """CPU and instruction sets, on which INT8 figures depend."""
        return processor_of(self.to_json())

    def sentence(self) -> str:
        """One line for a table."""
        gpu = ", ".join(self.gpus) or "no NVIDIA GPU"
        return f"{self.processor}, {self.cores} cores, {gpu}"


def processor_of(machine: Mapping[str, Any]) -> str:
    """CPU and instruction sets of a machine that is described in a table's JSON."""
    return f"{machine['cpu']} ({', '.join(machine['instruction_sets'])})"


def this_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=cpu_name(instruction_sets()),
        instruction_sets=instruction_sets(),
        cores=available_threads(),
        gpus=tuple(f"{gpu.name} (sm{gpu.compute_capability})" for gpu in gpus()),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that decide a figure."""
    return {name: version for name in _PACKAGES if (version := version_of(name))}
