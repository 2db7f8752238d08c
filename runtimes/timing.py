"""Measure the latency of several open runtimes in turns.

The runtimes take turns because a machine changes its speed from second to second; the ratio of two
latencies stays the same only if both were measured in alternation. A call is timed from images in host
memory to logits in host memory, so the copies to a device and the synchronisation are included. The first
call of every turn is not timed, because the caches then hold the data of another runtime.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
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
    """The latency of one runtime at one batch size.

    Attributes:
        batch: the number of images in each call.
        calls: the number of timed calls.
        p50_ms: the median of the calls, in milliseconds.
        p90_ms: the 90th percentile of the calls, in milliseconds.
        p99_ms: the 99th percentile of the calls, in milliseconds.
        images_per_s: `batch` divided by the median.
    """

    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float


@dataclass(frozen=True)
class Rounds:
    """The timed calls of one runtime at one batch size.

    Attributes:
        batch: the number of images in each call.
        seconds: the durations of the calls of each turn, one tuple a turn. Turns of the same number in the
            `Rounds` of two runtimes follow one another, so that they saw the machine at the same speed.
    """

    batch: int
    seconds: tuple[tuple[float, ...], ...]

    @property
    def latency(self) -> Latency:
        """The percentiles of all calls."""
        return summary([duration for turn in self.seconds for duration in turn], self.batch)

    @property
    def medians_ms(self) -> list[float]:
        """The median of each turn, in milliseconds."""
        return [1000 * float(np.median(turn)) for turn in self.seconds]


def latencies(
    runtimes: Mapping[Key, Runtime],
    images: Batch,
    batch: int,
    seconds: float,
    progress: Progress = silent,
) -> dict[Key, Latency]:
    """The latency of each runtime; the arguments are those of `timed_rounds`."""
    timed = timed_rounds(runtimes, images, batch, seconds, progress)
    return {key: rounds.latency for key, rounds in timed.items()}


def timed_rounds(
    runtimes: Mapping[Key, Runtime],
    images: Batch,
    batch: int,
    seconds: float,
    progress: Progress = silent,
    after_turn: Callable[[Key], None] = lambda key: None,
) -> dict[Key, Rounds]:
    """Time open runtimes in turns on the first `batch` images.

    Args:
        runtimes: the open runtimes, under keys of the caller's choice.
        images: at least one normalised image; the images repeat if there are fewer than `batch`.
        batch: the number of images in each call.
        seconds: the time to spend on each runtime in all rounds together. Each round has at least two
            timed calls, so that slow runtimes take longer.
        progress: wraps the loop over the rounds, so that a display can follow.
        after_turn: is called with the key of a runtime behind the last call of each of its turns.

    Returns:
        the calls of each runtime, under the same keys.
    """
    inputs = filled(images, batch)
    for runtime in runtimes.values():
        for _ in range(_WARM_UP_CALLS):
            runtime.infer(inputs)
    turns: dict[Key, list[tuple[float, ...]]] = {key: [] for key in runtimes}
    for _ in progress(range(ROUNDS), f"timing batch {batch}", ROUNDS):
        for key, runtime in runtimes.items():
            turns[key].append(_timed_calls(runtime, inputs, seconds / ROUNDS))
            after_turn(key)
    return {key: Rounds(batch, tuple(of_key)) for key, of_key in turns.items()}


def filled(images: Batch, batch: int) -> Batch:
    """A batch of so many images, which repeat if there are fewer."""
    return np.resize(images, (batch, *images.shape[1:]))


def summary(seconds: Sequence[float], batch: int) -> Latency:
    """Return the percentiles of the durations of calls, which are given in seconds."""
    p50, p90, p99 = (1000 * float(q) for q in np.percentile(seconds, [50, 90, 99]))
    return Latency(batch, len(seconds), p50, p90, p99, 1000 * batch / p50)


def _timed_calls(runtime: Runtime, inputs: Batch, seconds: float) -> tuple[float, ...]:
    runtime.infer(inputs)
    times: list[float] = []
    total = 0.0
    while len(times) < 2 or total < seconds:
        started = time.perf_counter()
        runtime.infer(inputs)
        times.append(time.perf_counter() - started)
        total += times[-1]
    return tuple(times)
