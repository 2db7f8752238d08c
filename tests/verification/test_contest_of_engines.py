"""Engines on a made-up clock: what is measured of each, and that a broken one does not stop the others."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from stub_runtimes import Stubs, stubbed

from artifacts.names import CHECKPOINT, MODEL
from errors import CheckFailed, UserError
from machine.gpu import GpuState
from runtimes.subjects import Subject
from runtimes.timing import ROUNDS
from verification.contest import opened, timed_in_turns
from verification.costs import Cost
from verification.refusal import Refusal
from vocabulary import Device, Precision

TORCH = Subject("torch", Precision.fp32, CHECKPOINT, Device.cpu)
ORT = Subject("ort", Precision.fp32, MODEL, Device.cpu)
ON_GPU = Subject("ort", Precision.fp16, MODEL, Device.cuda)
IMAGES = np.zeros((2, 3, 32, 32), np.float32)
RUN: Any = None


def two(monkeypatch: pytest.MonkeyPatch, **ort: Any) -> Stubs:
    made = {
        ("torch", "fp32", "cpu"): {"milliseconds": 4.0, "opening_ms": 30, "first_ms": 500},
        ("ort", "fp32", "cpu"): {"milliseconds": 1.0, "opening_ms": 7, "first_ms": 20} | ort,
    }
    return stubbed(monkeypatch, made)


def test_figures_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    two(monkeypatch)
    with ExitStack() as stack:
        contestants, refusals = opened(stack, RUN, [TORCH, ORT])
        measured, refused = timed_in_turns(contestants, IMAGES, 3, 0.0)
    assert refusals == refused == []
    assert [entry.contestant.opening.ms for entry in measured] == pytest.approx([30, 7])
    # The first call of three images compiles for this size; the timed calls do not.
    assert [entry.first.ms for entry in measured] == pytest.approx([512, 23])
    assert [entry.rounds.latency.p99_ms for entry in measured] == pytest.approx([12, 3])
    assert [entry.device_ms for entry in measured] == [None, None]
    assert [entry.gpu for entry in measured] == [None, None]


def test_engines_are_closed_behind_the_contest(monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = two(monkeypatch)
    with ExitStack() as stack:
        opened(stack, RUN, [TORCH, ORT])
        assert [stub.is_open for stub in stubs.opened] == [True, True]
    assert [stub.is_open for stub in stubs.opened] == [False, False]


@pytest.mark.parametrize(("kind", "status"), [(UserError, "not run"), (CheckFailed, "failed")])
def test_engine_that_does_not_open_is_a_refusal_and_the_others_are_timed(
    monkeypatch: pytest.MonkeyPatch, kind: type[UserError], status: str
) -> None:
    two(monkeypatch, fails_to_open=kind("the provider does not load", "install it"))
    with ExitStack() as stack:
        contestants, refusals = opened(stack, RUN, [ORT, TORCH])
        measured, _ = timed_in_turns(contestants, IMAGES, 1, 0.0)
    assert [entry.contestant.subject for entry in measured] == [TORCH]
    assert refusals == [
        Refusal("ort", "fp32", "cpu", None, status, "the provider does not load", "install it")
    ]
    assert type(refusals[0].error) is kind


def test_engine_that_fails_at_one_batch_size_is_timed_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    two(monkeypatch, fails_at={8: UserError("no memory for this size", "take a smaller --batch")})
    with ExitStack() as stack:
        contestants, _ = opened(stack, RUN, [TORCH, ORT])
        ran = {batch: timed_in_turns(contestants, IMAGES, batch, 0.0) for batch in (1, 8, 16)}
    names = {batch: [entry.contestant.subject.engine for entry in both[0]] for batch, both in ran.items()}
    assert names == {1: ["torch", "ort"], 8: ["torch"], 16: ["torch", "ort"]}
    assert [(r.engine, r.batch, r.reason) for _, refused in ran.values() for r in refused] == [
        ("ort", 8, "no memory for this size")
    ]


def test_a_bug_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    two(monkeypatch, fails_at={1: ZeroDivisionError("a bug")})
    with ExitStack() as stack:
        contestants, _ = opened(stack, RUN, [TORCH, ORT])
        with pytest.raises(ZeroDivisionError):
            timed_in_turns(contestants, IMAGES, 1, 0.0)


def test_options_of_runtimes_reach_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = two(monkeypatch)
    with ExitStack() as stack:
        opened(stack, RUN, [ORT], 3, True, False)
    assert stubs.options == [(3, True, False)]


def test_gpu_is_looked_at_behind_each_turn_and_its_own_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = stubbed(
        monkeypatch,
        {
            ("torch", "fp32", "cpu"): 4.0,
            ("ort", "fp16", "cuda"): {"milliseconds": 1.0, "on_device_ms": 0.25},
        },
    )
    asked: list[tuple[int, str]] = []

    def state(index: int) -> GpuState:
        asked.append((index, stubs.clock.calls[-1][0]))
        return GpuState(1000 + 100 * len(asked), 5000, None, 40)

    monkeypatch.setattr("verification.contest.gpu_state", state)
    with ExitStack() as stack:
        contestants, _ = opened(stack, RUN, [TORCH, ON_GPU])
        on_cpu, on_gpu = timed_in_turns(contestants, IMAGES, 1, 0.0)[0]
    assert asked == [(0, "ort")] * ROUNDS
    assert (on_cpu.device_ms, on_cpu.gpu) == (None, None)
    assert on_gpu.device_ms == 0.25
    # The clock rose from 1100 to 2000 MHz, and the board told no power.
    assert on_gpu.gpu == {
        "sm_clock_mhz": 1550,
        "memory_clock_mhz": 5000,
        "power_w": None,
        "temperature_c": 40,
    }


def test_device_time_is_the_median_of_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = two(monkeypatch)
    with ExitStack() as stack:
        contestants, _ = opened(stack, RUN, [ORT])
        # One turn of ten is disturbed, and one is faster than the others.
        told = iter([0.1, *[0.25] * (ROUNDS - 2), 9.0])
        monkeypatch.setattr(stubs.opened[0], "device_ms", lambda images: next(told))
        (measured,), _ = timed_in_turns(contestants, IMAGES, 1, 0.0)
    assert measured.device_ms == 0.25


def test_memory_of_opening_and_of_the_first_call_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    two(monkeypatch)
    host = iter((0, 5_000_000, 5_000_000, 45_000_000))
    monkeypatch.setattr("verification.costs.resident_memory", lambda: next(host))
    monkeypatch.setattr("verification.costs.gpu_memory_in_use", lambda: None)
    with ExitStack() as stack:
        contestants, _ = opened(stack, RUN, [ORT])
        (measured,), _ = timed_in_turns(contestants, IMAGES, 1, 0.0)
    assert contestants[0].opening == Cost(pytest.approx(7), 5.0, None)
    assert measured.first == Cost(pytest.approx(21), 40.0, None)
