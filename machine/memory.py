"""How many bytes of memory a process may use: those of the host or its container, and those of a GPU.

POSIX systems tell the size of the host's memory through `sysconf`, and Windows through
`GlobalMemoryStatusEx`. A container may use less than the host has: cgroup v2 keeps that limit in the file
`memory.max`, as a number of bytes or as the word "max".
"""

import ctypes
import os
from pathlib import Path

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API; all sizes are in bytes."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load_percent", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("available_physical", ctypes.c_uint64),
        ("total_page_file", ctypes.c_uint64),
        ("available_page_file", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended_virtual", ctypes.c_uint64),
    )


def host_memory() -> int:
    """Bytes of memory this process may use: all the host has, or the limit of its container."""
    present = _posix_memory() if hasattr(os, "sysconf") else _windows_memory()
    limit = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.is_file() else "max"
    return present if limit == "max" else min(present, int(limit))


def gpu_memory() -> int:
    """Bytes of memory that PyTorch's current CUDA device has, whether they are free or not."""
    import torch

    return torch.cuda.mem_get_info()[1]


def _posix_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_memory() -> int:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    # CDLL serves a function of the Windows API too, because 64-bit Windows has one calling convention.
    if not ctypes.CDLL("kernel32.dll").GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed, so the size of the memory is unknown")
    return status.total_physical
