from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.schedules import OneCycle, StepDecay


def test_one_cycle_by_hand() -> None:
    falling = [(1 + cos(pi * step / 8)) / 2 for step in range(8)]
    schedule = OneCycle(warmup=0.2)
    assert [schedule.share(step, 10) for step in range(10)] == pytest.approx([0.5, 1, *falling])
    assert falling[4] == pytest.approx(0.5), "half of the peak half-way down"


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1))
def test_one_cycle_rises_to_the_peak_then_falls_and_stays_above_0(steps: int, warmup: float) -> None:
    schedule = OneCycle(warmup)
    shares = [schedule.share(step, steps) for step in range(steps)]
    top = shares.index(max(shares))
    assert max(shares) == pytest.approx(1)
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert min(shares) > 0
    assert top <= max(1, round(warmup * steps))


def test_step_decay_by_hand() -> None:
    schedule = StepDecay(milestones=(0.5, 0.75), low_steps=2)
    wanted = [0.1, 0.1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert [schedule.share(step, 10) for step in range(10)] == pytest.approx(wanted)
    assert StepDecay().share(0, 10) == 1
