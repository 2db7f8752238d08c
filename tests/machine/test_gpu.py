import ctypes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from machine.gpu import Gpu, GpuState, gpu_state, gpu_state_or_reason, gpus

ROOT = Path(__file__).parents[2]


STATES = [GpuState(1980, 2619, 412.5, 61), GpuState(210, 405, 18.25, 33)]


def bus_id(index: int) -> bytes:
    """CUDA counts the fastest GPU first, and here the fastest is in the last slot."""
    return f"0000:{len(STATES) - index}0:00.0".encode()


class NvmlError(Exception):
    """What `pynvml` raises."""


class FakeNvml:
    """As much of `pynvml` as is asked for, with one handle for each of `STATES`.

    Args:
        missing: names of functions that raise.
    """

    NVMLError = NvmlError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.open = 0

    def _require(self, name: str, is_open: int = 1) -> None:
        if name in self.missing:
            raise NvmlError("Not Supported")
        if self.open < is_open:
            raise NvmlError("Uninitialized")

    def nvmlInit(self) -> None:  # noqa: N802
        self._require("nvmlInit", 0)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._require("nvmlShutdown")
        self.open -= 1

    def nvmlDeviceGetHandleByPciBusId(self, name: bytes) -> GpuState:  # noqa: N802
        self._require("nvmlDeviceGetHandleByPciBusId")
        return STATES[[bus_id(index) for index in range(len(STATES))].index(name)]

    def nvmlDeviceGetClockInfo(self, device: GpuState, clock: int) -> int | None:  # noqa: N802
        self._require("nvmlDeviceGetClockInfo")
        return {1: device.sm_clock_mhz, 2: device.memory_clock_mhz}[clock]

    def nvmlDeviceGetPowerUsage(self, device: GpuState) -> int:  # noqa: N802
        self._require("nvmlDeviceGetPowerUsage")
        assert device.power_w is not None
        return int(1000 * device.power_w)

    def nvmlDeviceGetTemperature(self, device: GpuState, sensor: int) -> int | None:  # noqa: N802
        self._require("nvmlDeviceGetTemperature")
        return {0: device.temperature_c}[sensor]


class FakeDriver:
    """As much of the CUDA driver API as is asked for; functions return 0 for success."""

    def __init__(self, *devices: Gpu, init: int = 0, count: int = 0) -> None:
        self.devices = devices
        self.init = init
        self.count = count

    def cuInit(self, flags: int) -> int:  # noqa: N802
        assert flags == 0
        return self.init

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = len(self.devices)  # type: ignore[attr-defined]
        return self.count

    def cuDeviceGet(self, device: object, ordinal: int) -> int:  # noqa: N802
        # Handles need not be ordinals.
        device._obj.value = 100 + ordinal  # type: ignore[attr-defined]
        return 0 if ordinal < len(self.devices) else 101

    def cuDeviceGetPCIBusId(self, text: ctypes.Array, length: int, device: ctypes.c_int) -> int:  # noqa: N802
        text.value = bus_id(device.value - 100)
        assert len(text.value) < length
        return 0

    def cuDeviceGetName(self, name: ctypes.Array, length: int, device: ctypes.c_int) -> int:  # noqa: N802
        text = self.devices[device.value - 100].name.encode()
        assert len(text) < length
        name.value = text
        return 0

    def cuDeviceGetAttribute(self, value: object, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        capability = self.devices[device.value - 100].compute_capability
        value._obj.value = {75: capability // 10, 76: capability % 10}[attribute]  # type: ignore[attr-defined]
        return 0


@pytest.fixture
def set_driver(monkeypatch: pytest.MonkeyPatch):
    def set_to(driver: FakeDriver) -> None:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)

    return set_to


def missing_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def test_no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", missing_library)
    assert gpus() == []


def test_gpus_are_named_with_their_compute_capability_and_number(set_driver) -> None:
    present = [Gpu("NVIDIA GeForce RTX 4090", 89, index=0), Gpu("NVIDIA RTX PRO 6000", 120, index=1)]
    set_driver(FakeDriver(*present))
    assert gpus() == present


def test_driver_without_a_device_is_no_gpu(set_driver) -> None:
    set_driver(FakeDriver())
    assert gpus() == []


@pytest.mark.parametrize("failing", ["init", "count"])
def test_driver_that_fails_is_no_gpu(set_driver, failing: str) -> None:
    set_driver(FakeDriver(Gpu("NVIDIA A10", 86), **{failing: 100}))
    assert gpus() == []


@pytest.fixture
def nvml(set_driver, monkeypatch: pytest.MonkeyPatch):
    def set_to(*missing: str) -> FakeNvml:
        fake = FakeNvml(*missing)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        set_driver(FakeDriver(Gpu("NVIDIA H100", 90), Gpu("NVIDIA T4", 75)))
        return fake

    return set_to


@pytest.mark.parametrize("index", [0, 1])
def test_state_is_that_of_the_gpu_with_the_number_that_cuda_gives_it(nvml, index: int) -> None:
    fake = nvml()
    assert gpu_state(index) == STATES[index]
    assert fake.open == 0


def test_what_a_gpu_does_not_tell_is_none(nvml) -> None:
    fake = nvml("nvmlDeviceGetPowerUsage")
    assert gpu_state(0) == replace(STATES[0], power_w=None)
    assert fake.open == 0


def test_no_gpu_has_no_state_and_a_reason(nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml()
    assert gpu_state(2) is None
    assert gpu_state_or_reason(2) == "the NVIDIA driver reports no GPU 2"
    monkeypatch.setattr(ctypes, "CDLL", missing_library)
    assert gpu_state(0) is None
    assert gpu_state_or_reason(0) == "the NVIDIA driver reports no GPU 0"


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("nvmlInit", "NVML does not load (Not Supported)"),
        (
            "nvmlDeviceGetHandleByPciBusId",
            "NVML does not know the GPU 0 at 0000:20:00.0 (Not Supported)",
        ),
    ],
)
def test_nvml_that_fails_says_why(nvml, missing: str, reason: str) -> None:
    fake = nvml(missing)
    assert gpu_state(0) is None
    assert gpu_state_or_reason(0) == reason
    assert fake.open == 0


def test_the_real_binding_has_what_the_double_has(monkeypatch: pytest.MonkeyPatch, set_driver) -> None:
    import pynvml

    names = [name for name in dir(FakeNvml) if name.lower().startswith("nvml")]
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert [pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM, pynvml.NVML_TEMPERATURE_GPU] == [1, 2, 0]


def test_asking_loads_no_framework() -> None:
    code = "import sys; from machine.gpu import gpus; gpus(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="no NVIDIA GPU")
def test_gpus_of_this_machine_are_those_pytorch_sees() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA build of torch to compare with")
    seen = [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]
    assert {gpu.compute_capability for gpu in gpus()} >= {10 * major + minor for major, minor in seen}
