import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphs.card import Batch
from runtimes import timing
from runtimes.subjects import Subject
from runtimes.timing import ROUNDS, Rounds, latencies, summary, timed_rounds

A, B = Subject("ort", "fp32", "a", "cpu"), Subject("ort", "int8", "b", "cpu")


@dataclass
class Bench:
    """A clock that only calls of runtimes move on, and the names of the runtimes in order of their calls."""

    seconds: float = 0
    calls: list[str] = field(default_factory=list)


@dataclass
class FakeRuntime:
    """A runtime whose calls take `duration` seconds, and `after_another` more after a different runtime."""

    name: str
    bench: Bench
    duration: float
    after_another: float = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def infer(self, images: Batch) -> None:
        cold = not self.bench.calls or self.bench.calls[-1] != self.name
        self.bench.seconds += self.duration + cold * self.after_another
        self.bench.calls.append(self.name)
        self.shapes.add(images.shape)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    clock = Bench()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))
    return clock


def _timed(runtimes: dict[Subject, Any], batch: int = 1, seconds: float = 0.0) -> dict[Subject, Any]:
    return latencies(runtimes, np.zeros((2, 3, 32, 32), np.float32), batch, seconds)


def test_percentiles_by_hand() -> None:
    """The percentiles of 1 to 5 ms are linear in between: p90 lies 0.6 of the way from 4 to 5 ms."""
    latency = summary([0.003, 0.001, 0.005, 0.002, 0.004], batch=8)
    assert (latency.batch, latency.calls) == (8, 5)
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == pytest.approx((3, 4.6, 4.96))
    assert latency.images_per_s == pytest.approx(8 / 0.003)


def test_all_percentiles_of_one_call_are_that_call() -> None:
    latency = summary([0.002], batch=1)
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == pytest.approx((2, 2, 2))
    assert latency.images_per_s == pytest.approx(500)


def test_calls_are_timed_in_turns(bench: Bench) -> None:
    _timed({A: FakeRuntime("a", bench, 0.001), B: FakeRuntime("b", bench, 0.001)})
    turns = [name for name, _ in itertools.groupby(bench.calls)]
    # The first pair of turns is the warm-up.
    assert turns == ["a", "b"] * (1 + ROUNDS)


def test_each_round_has_two_timed_calls_at_least_however_slow(bench: Bench) -> None:
    latency = _timed({A: FakeRuntime("a", bench, 60.0), B: FakeRuntime("b", bench, 1.0)}, seconds=0.01)
    assert latency[A].calls == latency[B].calls == 2 * ROUNDS


def test_seconds_are_those_of_each_runtime(bench: Bench) -> None:
    latency = _timed(
        {A: FakeRuntime("a", bench, 2**-10), B: FakeRuntime("b", bench, 2**-7)}, seconds=ROUNDS * 0.25
    )
    assert latency[A].calls == ROUNDS * 2**8
    assert latency[B].calls == ROUNDS * 2**5


def test_time_is_that_of_the_call(bench: Bench) -> None:
    latency = _timed({A: FakeRuntime("a", bench, 0.004), B: FakeRuntime("b", bench, 0.001)}, batch=2)
    assert (latency[A].p50_ms, latency[A].p99_ms) == pytest.approx((4, 4))
    assert latency[B].p50_ms == pytest.approx(1)
    assert latency[A].images_per_s == pytest.approx(500)


def test_first_call_after_a_change_of_engine_is_not_counted(bench: Bench) -> None:
    """That call finds the data of the other runtime in the caches."""
    latency = _timed(
        {
            A: FakeRuntime("a", bench, 0.001, after_another=1),
            B: FakeRuntime("b", bench, 0.001, after_another=1),
        }
    )
    assert latency[A].p99_ms == pytest.approx(1)
    assert latency[B].p99_ms == pytest.approx(1)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batch_is_filled_with_the_images_there_are(bench: Bench, batch: int) -> None:
    runtime = FakeRuntime("a", bench, 0.001)
    _timed({A: runtime}, batch)
    assert runtime.shapes == {(batch, 3, 32, 32)}


IMAGES = np.zeros((2, 3, 32, 32), np.float32)


def test_calls_are_kept_turn_by_turn(bench: Bench) -> None:
    fast, slow = FakeRuntime("a", bench, 2**-10), FakeRuntime("b", bench, 2**-7)
    rounds: Any = timed_rounds({A: fast, B: slow}, IMAGES, 2, seconds=ROUNDS * 0.25)
    assert rounds[A] == Rounds(2, ((2**-10,) * 2**8,) * ROUNDS)
    assert rounds[B] == Rounds(2, ((2**-7,) * 2**5,) * ROUNDS)


def test_medians_of_the_turns_and_percentiles_of_all_calls() -> None:
    rounds = Rounds(4, ((0.001, 0.003, 0.002), (0.005, 0.004)))
    assert rounds.medians_ms == pytest.approx([2, 4.5])
    assert rounds.latency == summary([0.001, 0.003, 0.002, 0.005, 0.004], 4)


def test_one_looks_at_the_machine_behind_each_turn_of_each_runtime(bench: Bench) -> None:
    seen: list[tuple[Any, str]] = []
    runtimes: Any = {A: FakeRuntime("a", bench, 0.001), B: FakeRuntime("b", bench, 0.001)}
    timed_rounds(runtimes, IMAGES, 1, 0.0, after_turn=lambda key: seen.append((key, bench.calls[-1])))
    assert seen == [(A, "a"), (B, "b")] * ROUNDS
