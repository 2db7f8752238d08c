import numpy as np
import pytest

from runtimes.timing import Rounds
from verification.ratios import Ratio, ratio_of, resampled_medians

TEN = 10


def rounds_of(*turns: tuple[float, ...]) -> Rounds:
    return Rounds(1, turns)


def test_ratio_is_that_of_the_medians_of_all_calls() -> None:
    reference = rounds_of((0.010, 0.012), (0.014, 0.030))
    engine = rounds_of((0.001, 0.002), (0.003, 0.004))
    assert ratio_of(reference, engine).value == pytest.approx(0.013 / 0.0025)


def test_engine_of_steady_pace_has_no_width() -> None:
    ratio = ratio_of(rounds_of(*[(0.004,) * 3] * TEN), rounds_of(*[(0.001,) * 5] * TEN))
    assert ratio == Ratio(pytest.approx(4), pytest.approx(4), pytest.approx(4))


def test_a_machine_that_changes_its_speed_from_round_to_round_moves_no_ratio() -> None:
    """Rounds are drawn in pairs: each round is k times as slow for both, and the ratio stays 4."""
    paces = [1.0, 5.0, 2.0, 1.0, 9.0, 3.0, 1.0, 1.0, 7.0, 2.0]
    reference = rounds_of(*[(0.004 * pace,) * 3 for pace in paces])
    engine = rounds_of(*[(0.001 * pace,) * 3 for pace in paces])
    ratio = ratio_of(reference, engine)
    assert (ratio.low, ratio.high) == pytest.approx((4, 4))


def test_limits_hold_the_ratio_and_grow_with_the_noise() -> None:
    generator = np.random.default_rng(1)

    def noisy(mean: float, spread: float) -> Rounds:
        return rounds_of(*[tuple(mean * generator.lognormal(0, spread, 3)) for _ in range(TEN)])

    quiet = ratio_of(noisy(0.004, 0.01), noisy(0.001, 0.01))
    loud = ratio_of(noisy(0.004, 0.2), noisy(0.001, 0.2))
    assert quiet.low < quiet.value < quiet.high
    assert loud.low < loud.value < loud.high
    assert loud.high - loud.low > 5 * (quiet.high - quiet.low)


def test_calls_of_a_slow_round_are_one_witness() -> None:
    """A thousand calls in each round say no more of rounds that differ than ten do."""

    def with_calls(count: int) -> Ratio:
        paces = np.linspace(1, 2, TEN)
        return ratio_of(
            rounds_of(*[(0.004,) * count] * TEN), rounds_of(*[(0.001 * pace,) * count for pace in paces])
        )

    few, many = with_calls(10), with_calls(1000)
    assert (few.low, few.high) == pytest.approx((many.low, many.high))
    assert few.high > 1.2 * few.low


def test_same_figures_give_the_same_limits() -> None:
    rounds = rounds_of(*[(0.001 * pace, 0.002) for pace in range(1, 11)])
    resampled_medians.cache_clear()
    first = resampled_medians(rounds)
    resampled_medians.cache_clear()
    np.testing.assert_array_equal(resampled_medians(rounds), first)


def test_interval_of_95_per_cent_holds_the_truth_nine_times_of_ten() -> None:
    """On 300 made-up benchmarks of ten rounds; a bootstrap of so few is known to fall short of 95 %."""
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        pace = generator.lognormal(0, 0.3, TEN)
        reference, engine = (
            rounds_of(
                *[(mean * k * j,) for k, j in zip(pace, generator.lognormal(0, 0.05, TEN), strict=True)]
            )
            for mean in (0.004, 0.001)
        )
        ratio = ratio_of(reference, engine)
        hits += ratio.low <= 4 <= ratio.high
    assert 0.85 <= hits / 300 <= 0.99, hits / 300


def test_two_rounds_and_one_are_enough_to_go_on() -> None:
    assert ratio_of(rounds_of((0.002,)), rounds_of((0.001,))).interval == pytest.approx([2, 2])
    low, high = ratio_of(rounds_of((0.002,), (0.004,)), rounds_of((0.001,), (0.001,))).interval
    assert (low, high) == pytest.approx((2, 4))


def test_a_resample_draws_one_round_less_than_there_are() -> None:
    """Of two rounds it is one of them; two drawn ones would have a median of 2 ms now and then."""
    assert set(resampled_medians(rounds_of((0.001,), (0.003,)))) == {0.001, 0.003}


def test_runtimes_that_had_other_numbers_of_turns_are_not_compared() -> None:
    with pytest.raises(ValueError, match="1 rounds are not in turns with 2"):
        ratio_of(rounds_of((0.002,)), rounds_of((0.001,), (0.001,)))
