"""The CPU: its name, its cores, and the instruction sets that decide INT8 results and bfloat16 speed."""

import os
import platform
import re
from pathlib import Path

_VNNI = {"AVX512-VNNI", "AVX-VNNI"}
# The names that Linux gives these instruction sets in /proc/cpuinfo.
_FLAGS = {
    "AVX2": "avx2",
    "AVX-VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512-VNNI": "avx512_vnni",
    "AVX512-bf16": "avx512_bf16",
    "AMX": "amx_tile",
}


def instruction_sets() -> tuple[str, ...]:
    """Those of AVX2, AVX-VNNI, AVX512, AVX512-VNNI, AVX512-bf16 and AMX that libraries find on this CPU."""
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
    """Whether INT8 kernels add pairs of products in 16 bits here, as they do on x86 without VNNI."""
    return platform.machine() in ("x86_64", "AMD64") and not _VNNI & set(instruction_sets())


def available_threads() -> int:
    """The number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name(visible: tuple[str, ...]) -> str:
    """The CPU's name, with the instruction sets that Linux reports and libraries do not find.

    Args:
        visible: what libraries find, see `instruction_sets`.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    # Every core has an entry of this form, and the first one is read.
    name, flags = (re.search(rf"^{field}\s*: (.*)$", text, re.MULTILINE) for field in ("model name", "flags"))
    present = flags[1].split() if flags else []
    hidden = [known for known, flag in _FLAGS.items() if flag in present and known not in visible]
    words = name[1].strip() if name else platform.processor() or platform.machine()
    return f"{words} without its {', '.join(hidden)}" if hidden else words
