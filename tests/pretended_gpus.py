"""Pretend which GPUs are there, whatever the machine has."""

import pytest

import machine.description
import runtimes.subjects
import runtimes.tensorrt.package
import runtimes.tensorrt.targets
import runtimes.trt_runtime
from machine.gpu import Gpu

_ASKING = (
    machine.description,
    runtimes.subjects,
    runtimes.tensorrt.targets,
    runtimes.tensorrt.package,
    runtimes.trt_runtime,
)


def set_gpus(monkeypatch: pytest.MonkeyPatch, *found: Gpu) -> None:
    for module in _ASKING:
        monkeypatch.setattr(module, "gpus", lambda: list(found))
