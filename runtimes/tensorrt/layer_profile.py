"""A profiler for TensorRT that adds up how long each layer takes.

TensorRT and TensorRT for RTX have the same `IProfiler`: an execution context that holds one reports each
layer once for each call, before `execute_async_v3` returns.
"""

from collections import Counter
from types import ModuleType
from typing import Any


def collecting_profiler(trt: ModuleType) -> Any:
    """A `trt.IProfiler` whose `totals` are the milliseconds of each layer over all calls, in order.

    The caller has to keep the profiler for as long as the context that it was given to, because TensorRT
    keeps nothing but a pointer.
    """

    class Collector(trt.IProfiler):  # type: ignore[misc, name-defined]
        """Adds up what is reported."""

        def __init__(self) -> None:
            super().__init__()
            self.totals: Counter[str] = Counter()

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.totals[layer_name] += ms  # type: ignore[assignment]

    return Collector()
