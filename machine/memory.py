"""How many bytes of memory a process may use on the host, in its container and on a GPU, and how many it has.

POSIX systems tell the size of the host's memory through `sysconf`, and Windows through
`GlobalMemoryStatusEx`. A container may use less than the host has: cgroup v2 keeps that limit in the file
`memory.max`, as a number of bytes or as the word "max".
"""

import ctypes
import os
from pathlib import Path

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Linux tells a process its memory in pages: the size of its address space, then the pages that are resident.
_OWN_PAGES = Path("/proc/self/statm")


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


def resident_memory() -> int | None:
    """Bytes of this process that lie in the host's memory; None where the system is not Linux."""
    if not _OWN_PAGES.is_file():
        return None
    return int(_OWN_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def gpu_memory_in_use() -> int | None:
    """Bytes in use on PyTorch's current CUDA device, by all processes; None where there is no such device."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free


def _posix_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_memory() -> int:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    # CDLL serves a function of the Windows API too, because 64-bit Windows has one calling convention.
    if not ctypes.CDLL("kernel32.dll").GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed, so the size of the memory is unknown")
    return status.total_physical
