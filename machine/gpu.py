"""Ask the NVIDIA driver, without any framework, which GPUs are there and what state they are in.

The CUDA driver API counts the GPUs that a process may use, the fastest first. NVML, which tells clocks and
power, counts all GPUs of the machine in the order of their slots. So the two are matched by the PCI bus id.
"""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """What decides how fast a GPU is at this moment; None where the GPU does not tell.

    Attributes:
        sm_clock_mhz: the clock of the multiprocessors.
        memory_clock_mhz: the clock of the memory.
        power_w: what the whole board draws.
        temperature_c: of the chip.
    """

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None


def gpus() -> list[Gpu]:
    """The GPUs that the driver reports through the CUDA driver API; none without a driver or a GPU."""
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_gpu(driver, index) for index in range(count.value)]


def gpu_state(index: int) -> GpuState | None:
    """The clocks, power and temperature of a GPU now; None where `gpu_state_or_reason` has a reason.

    Args:
        index: of the GPU, as in `Gpu`.
    """
    state = gpu_state_or_reason(index)
    return None if isinstance(state, str) else state


def gpu_state_or_reason(index: int) -> GpuState | str:
    """The state of a GPU through NVML, or in one line why it cannot be had."""
    bus_id = _bus_id(index)
    if bus_id is None:
        return f"the NVIDIA driver reports no GPU {index}"
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML does not load ({error})"
    try:
        return _state(pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(bus_id))
    except pynvml.NVMLError as error:
        return f"NVML does not know the GPU {index} at {bus_id.decode()} ({error})"
    finally:
        pynvml.nvmlShutdown()


def _state(nvml: Any, device: Any) -> GpuState:
    def told(ask: Callable[..., int], *what: int) -> int | None:
        try:
            return ask(device, *what)
        except nvml.NVMLError:
            # A laptop's GPU, for example, tells no power.
            return None

    milliwatts = told(nvml.nvmlDeviceGetPowerUsage)
    return GpuState(
        sm_clock_mhz=told(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=told(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        power_w=None if milliwatts is None else milliwatts / 1000,
        temperature_c=told(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
    )


def _driver() -> ctypes.CDLL | None:
    """The CUDA driver API, initialised; None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) else driver


def _bus_id(index: int) -> bytes | None:
    """Where a GPU is plugged in, such as b"0000:65:00.0"; None without such a GPU."""
    driver = _driver()
    device, text = ctypes.c_int(), ctypes.create_string_buffer(32)
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), index):
        return None
    return None if driver.cuDeviceGetPCIBusId(text, len(text), device) else text.value


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(), 10 * major.value + minor.value, index)
