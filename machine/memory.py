"""How much memory a computation may fill: the host's, a container's, or the GPU's."""

import ctypes
import os
from pathlib import Path

# Linux, cgroup v2: what a container may use, or "max".
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def host_memory() -> int:
    """Bytes of main memory that this process may use; a container's limit where that is less."""
    memory = _physical_memory()
    limit = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.is_file() else "max"
    return memory if limit == "max" else min(memory, int(limit))


def gpu_memory() -> int:
    """Bytes of memory of PyTorch's current GPU."""
    import torch

    return torch.cuda.mem_get_info()[1]


def _physical_memory() -> int:
    # Windows has no sysconf.
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.total_physical)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("memory_load", ctypes.c_ulong),
        ("total_physical", ctypes.c_ulonglong),
        ("available_physical", ctypes.c_ulonglong),
        ("total_page_file", ctypes.c_ulonglong),
        ("available_page_file", ctypes.c_ulonglong),
        ("total_virtual", ctypes.c_ulonglong),
        ("available_virtual", ctypes.c_ulonglong),
        ("available_extended_virtual", ctypes.c_ulonglong),
    )
