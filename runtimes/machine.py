"""The machine a figure was measured on, in words; every table carries it."""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artifacts import version_of
from runtimes.nvidia import gpus
from runtimes.runtime import available_threads

_PACKAGES = ("torch", "onnx", "onnxruntime-gpu", "openvino", "tensorrt-rtx", "tensorrt", "numpy")


@dataclass(frozen=True)
class Machine:
    """CPU model, instruction sets that decide INT8 and bfloat16 speed, cores and GPUs."""

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    gpus: tuple[str, ...]
    system: str

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON gives them back: lists, not tuples."""
        return asdict(self) | {"instruction_sets": list(self.instruction_sets), "gpus": list(self.gpus)}

    def sentence(self) -> str:
        """One line for a table."""
        gpu = ", ".join(self.gpus) or "no NVIDIA GPU"
        return f"{self.cpu} ({', '.join(self.instruction_sets)}), {self.cores} cores, {gpu}"


def this_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_cpu_name(),
        instruction_sets=instruction_sets(),
        cores=available_threads(),
        gpus=tuple(f"{gpu.name} (sm{gpu.compute_capability})" for gpu in gpus()),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that decide a figure."""
    return {name: version for name in _PACKAGES if (version := version_of(name))}


def instruction_sets() -> tuple[str, ...]:
    """Of AVX2, AVX512, AVX512-VNNI, AVX512-bf16 and AMX, those this CPU has."""
    import torch

    present = {
        "AVX2": torch.cpu._is_avx2_supported(),
        "AVX512": torch.cpu._is_avx512_supported(),
        "AVX512-VNNI": torch.cpu._is_vnni_supported(),
        "AVX512-bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return tuple(name for name, there in present.items() if there)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
