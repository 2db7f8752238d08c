"""Latency of open runtimes, measured in turns.

The runtimes take turns: machines change their speed over seconds, and a ratio of two figures that
were measured in alternation survives that. A call is timed from images on the host to logits on the
host, so copies to a device and its synchronisation are inside. The first call after a change of
engine is not counted: it finds another engine's data in the caches.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from graphs.card import Batch
from progress import Progress, silent
from runtimes.runtime import Runtime

ROUNDS = 10
_WARM_UP_CALLS = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call, over `calls` timed calls; `images_per_s` is batch over the median."""

    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float


def latencies(
    runtimes: Mapping[Key, Runtime],
    images: Batch,
    batch: int,
    seconds: float,
    progress: Progress = silent,
) -> dict[Key, Latency]:
    """Time open runtimes in turns on the first `batch` images.

    Args:
        runtimes: under keys of the caller's choice.
        images: normalised, at least one; repeated where the batch is larger.
        seconds: time for each runtime, all rounds together; each round has two timed calls at least.
    """
    inputs = np.resize(images, (batch, *images.shape[1:]))
    for runtime in runtimes.values():
        for _ in range(_WARM_UP_CALLS):
            runtime.infer(inputs)
    samples: dict[Key, list[float]] = {key: [] for key in runtimes}
    for _ in progress(range(ROUNDS), f"timing batch {batch}", ROUNDS):
        for key, runtime in runtimes.items():
            samples[key] += _timed_calls(runtime, inputs, seconds / ROUNDS)
    return {key: summary(times, batch) for key, times in samples.items()}


def summary(seconds: Sequence[float], batch: int) -> Latency:
    """Percentiles of call times given in seconds."""
    p50, p90, p99 = (1000 * float(q) for q in np.percentile(seconds, [50, 90, 99]))
    return Latency(batch, len(seconds), p50, p90, p99, 1000 * batch / p50)


def _timed_calls(runtime: Runtime, inputs: Batch, seconds: float) -> list[float]:
    runtime.infer(inputs)
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        started = time.perf_counter()
        runtime.infer(inputs)
        times.append(time.perf_counter() - started)
    return times
