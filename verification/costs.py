"""What an engine costs before it is fast: the time and the memory of opening it and of its first call."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from machine.memory import gpu_memory_in_use, resident_memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """What one piece of work took.

    Attributes:
        ms: milliseconds from the call to its return.
        host_mb: by how many megabytes the resident memory of this process grew. Memory that another engine
            has given back is used again, so the true need may be larger. None where the system does not say.
        device_mb: by how many megabytes the memory in use on the GPU grew, whichever process uses the
            memory. The driver's context is not part of this, because asking for the memory in use makes the
            context. None without a CUDA device.
    """

    ms: float
    host_mb: float | None
    device_mb: float | None


def with_cost(work: Callable[[], Result]) -> tuple[Result, Cost]:
    """The result of a piece of work, and what it took."""
    host, device = resident_memory(), gpu_memory_in_use()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    return result, Cost(
        1000 * seconds, _growth_mb(host, resident_memory()), _growth_mb(device, gpu_memory_in_use())
    )


def _growth_mb(before: int | None, after: int | None) -> float | None:
    return None if before is None or after is None else (after - before) / 1e6
