"""What the tests of runtimes need to pretend: which GPUs are there."""

from collections.abc import Callable

import pytest

import runtimes.machine
import runtimes.subjects
import runtimes.tensorrt_package
import runtimes.trt_runtime
from runtimes.nvidia import Gpu

ASKING = (runtimes.machine, runtimes.subjects, runtimes.tensorrt_package, runtimes.trt_runtime)


@pytest.fixture
def set_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the machine have just the GPUs named, whatever it has."""

    def set_to(*found: Gpu) -> None:
        for module in ASKING:
            monkeypatch.setattr(module, "gpus", lambda: list(found))

    return set_to
