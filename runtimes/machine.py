"""The machine a figure was measured on, in words; every table carries it."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artifacts import version_of
from runtimes.nvidia import gpus

_PACKAGES = ("torch", "onnx", "onnxruntime-gpu", "openvino", "tensorrt-rtx", "tensorrt", "numpy")
_VNNI = {"AVX512-VNNI", "AVX-VNNI"}
# As Linux names what the CPU has.
_FLAGS = {
    "AVX2": "avx2",
    "AVX-VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512-VNNI": "avx512_vnni",
    "AVX512-bf16": "avx512_bf16",
    "AMX": "amx_tile",
}


@dataclass(frozen=True)
class Machine:
    """CPU model, instruction sets that decide INT8 results and bfloat16 speed, cores and GPUs.

    The CPU's name says if instruction sets are hidden from the libraries (`benchmarks/without_vnni.py`).
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    gpus: tuple[str, ...]
    system: str

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON gives them back: lists, not tuples."""
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
    """CPU and instruction sets of a machine as a table records it."""
    return f"{machine['cpu']} ({', '.join(machine['instruction_sets'])})"


def this_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_cpu_name(instruction_sets()),
        instruction_sets=instruction_sets(),
        cores=available_threads(),
        gpus=tuple(f"{gpu.name} (sm{gpu.compute_capability})" for gpu in gpus()),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that decide a figure."""
    return {name: version for name in _PACKAGES if (version := version_of(name))}


def instruction_sets() -> tuple[str, ...]:
    """Of AVX2, AVX-VNNI, AVX512, AVX512-VNNI, AVX512-bf16 and AMX, those this CPU has."""
    import torch

    present = {
        "AVX2": torch.cpu._is_avx2_supported(),
        "AVX-VNNI": torch.cpu.get_capabilities().get("avx_vnni", False),
        "AVX512": torch.cpu._is_avx512_supported(),
        "AVX512-VNNI": torch.cpu._is_vnni_supported(),
        "AVX512-bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return tuple(name for name, there in present.items() if there)


def adds_products_in_16_bits() -> bool:
    """Whether INT8 kernels add pairs of products in 16 bits here: on x86 without VNNI."""
    return platform.machine() in ("x86_64", "AMD64") and not _VNNI & set(instruction_sets())


def available_threads() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name(found: tuple[str, ...]) -> str:
    """With the instruction sets that the kernel knows of and the libraries do not find."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    # The first of the cores.
    name, flags = (re.search(rf"^{field}\s*: (.*)$", text, re.MULTILINE) for field in ("model name", "flags"))
    present = flags[1].split() if flags else []
    hidden = [known for known, flag in _FLAGS.items() if flag in present and known not in found]
    words = name[1].strip() if name else platform.processor() or platform.machine()
    return f"{words} without its {', '.join(hidden)}" if hidden else words
