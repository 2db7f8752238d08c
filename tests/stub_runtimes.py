"""Runtimes on a made-up clock, in place of those that a benchmark would open.

Every call of a stub moves the clock on by the stub's own time, and nothing else does, so that every figure of
a benchmark can be computed by hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import pytest

from errors import UserError
from graphs.card import Batch
from runtimes import timing
from runtimes.runtime import LayerTime
from runtimes.subjects import Subject
from verification import contest, costs

Named = tuple[str, str, str]


@dataclass
class Clock:
    """Seconds that have passed, and the calls of all stubs in order as (engine, precision, batch)."""

    seconds: float = 0.0
    calls: list[tuple[str, str, int]] = field(default_factory=list)


@dataclass
class StubRuntime:
    """An engine that takes `milliseconds(call)` for each image, and more for its opening and first calls.

    Attributes:
        milliseconds: of an image, by the number of the call.
        opening_ms: for opening.
        first_ms: in addition at the first call of each batch size.
        on_device_ms: what the device's own clock says; None for a device without one.
        layers: what a profile tells.
        fails_to_open: the error that opening raises.
        fails_at: the error that a call at a batch size raises.
    """

    subject: Subject
    clock: Clock
    milliseconds: Callable[[int], float]
    opening_ms: float = 0.0
    first_ms: float = 0.0
    on_device_ms: float | None = None
    layers: list[LayerTime] | None = None
    fails_to_open: UserError | None = None
    fails_at: Mapping[int, UserError] = field(default_factory=dict)
    count: int = 0
    seen: set[int] = field(default_factory=set)
    is_open: bool = False

    def __enter__(self) -> Self:
        self.clock.seconds += self.opening_ms / 1000
        if self.fails_to_open is not None:
            raise self.fails_to_open
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False

    def infer(self, images: Batch) -> None:
        assert self.is_open
        batch = len(images)
        if batch in self.fails_at:
            raise self.fails_at[batch]
        self.clock.seconds += (self.milliseconds(self.count) * batch) / 1000
        if batch not in self.seen:
            self.clock.seconds += self.first_ms / 1000
        self.seen.add(batch)
        self.count += 1
        self.clock.calls.append((self.subject.engine, self.subject.precision, batch))

    def device_ms(self, images: Batch) -> float | None:
        assert self.is_open
        return self.on_device_ms

    def layer_times(self, images: Batch, calls: int) -> list[LayerTime] | None:
        assert self.is_open and calls > 0
        return self.layers

    def describe(self) -> dict[str, Any]:
        assert self.is_open
        return {"version": "stub", "device": self.subject.device, "sizes": sorted(self.seen)}


@dataclass
class Stubs:
    """What is opened in place of runtimes; `clock` is the clock that timings are read from."""

    clock: Clock
    made: dict[Named, dict[str, Any]]
    opened: list[StubRuntime] = field(default_factory=list)
    options: list[tuple[Any, ...]] = field(default_factory=list)

    def open(self, run: object, subject: Subject, *options: Any) -> StubRuntime:
        self.options.append(options)
        more = dict(self.made[subject.engine, subject.precision, subject.device])
        pace = more.pop("milliseconds")
        stub = StubRuntime(subject, self.clock, pace if callable(pace) else lambda call: pace, **more)
        self.opened.append(stub)
        return stub


def stubbed(monkeypatch: pytest.MonkeyPatch, made: Mapping[Named, float | dict[str, Any]]) -> Stubs:
    """Open stubs from now on.

    Args:
        made: by engine, precision and device, the milliseconds of an image or the fields of a `StubRuntime`.
    """
    fields = {
        named: dict(one) if isinstance(one, dict) else {"milliseconds": one} for named, one in made.items()
    }
    stubs = Stubs(Clock(), fields)
    tick = SimpleNamespace(perf_counter=lambda: stubs.clock.seconds)
    for module in (timing, costs):
        monkeypatch.setattr(module, "time", tick)
    for place in ("verification.contest.open_subject", "verification.layer_profile.open_subject"):
        monkeypatch.setattr(place, stubs.open)
    monkeypatch.setattr(contest, "gpu_index_of", lambda run, subject: 0 if subject.device == "cuda" else None)
    return stubs
