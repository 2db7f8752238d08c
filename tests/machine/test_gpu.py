import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from machine.gpu import Gpu, gpus

ROOT = Path(__file__).parents[2]


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


def test_no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
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
