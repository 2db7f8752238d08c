"""Pretend which GPUs are there, whatever the machine has."""

import pytest

import runtimes.machine
import runtimes.subjects
import runtimes.targets
import runtimes.tensorrt_package
import runtimes.trt_runtime
from runtimes.nvidia import Gpu

_ASKING = (
    runtimes.machine,
    runtimes.subjects,
    runtimes.targets,
    runtimes.tensorrt_package,
    runtimes.trt_runtime,
)


def set_gpus(monkeypatch: pytest.MonkeyPatch, *found: Gpu) -> None:
    for module in _ASKING:
        monkeypatch.setattr(module, "gpus", lambda: list(found))
