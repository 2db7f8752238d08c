from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from verification import costs
from verification.costs import Cost, with_cost


def _machine(monkeypatch: pytest.MonkeyPatch, host: Iterator[int | None], gpu: Iterator[int | None]) -> None:
    """Figures of memory one after the other, and a clock on which the work takes 250 ms."""
    ticks = iter((10.0, 10.25))
    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(costs, "resident_memory", lambda: next(host))
    monkeypatch.setattr(costs, "gpu_memory_in_use", lambda: next(gpu))


def test_cost_is_the_time_and_the_growth_of_both_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, iter((100_000_000, 130_000_000)), iter((2_000_000_000, 2_512_000_000)))
    result, cost = with_cost(lambda: "loaded")
    assert result == "loaded"
    assert cost == Cost(250.0, 30.0, 512.0)


def test_memory_that_was_given_back_is_negative_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, iter((130_000_000, 100_000_000)), iter((None, None)))
    assert with_cost(lambda: None)[1] == Cost(250.0, -30.0, None)


def test_memory_that_the_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, iter((None, None)), iter((None, None)))
    assert with_cost(lambda: None)[1] == Cost(250.0, None, None)
