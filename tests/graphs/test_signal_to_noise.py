import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.signal_to_noise import Noise


def test_decibels_by_hand() -> None:
    """The signal is 9 + 16 + 0 + 1 = 26 and the noise is 1 + 0 + 0 + 1 = 2."""
    noise = Noise().update(np.float32([3, 4]), np.float32([2, 4]))
    noise.update(np.float32([0, 1]), np.float32([0, 2]))
    assert noise.snr_db == pytest.approx(10 * math.log10(26 / 2))


def test_nothing_that_differs_is_infinitely_good_and_noise_on_zeros_infinitely_bad() -> None:
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert Noise().update(zeros, zeros).snr_db == Noise().update(ones, ones).snr_db == math.inf
    assert Noise().update(zeros, ones).snr_db == -math.inf


@given(st.integers(0, 100), st.integers(1, 7))
def test_batches_add_up(seed: int, size: int) -> None:
    original, judged = np.random.default_rng(seed).standard_normal((2, 20, 3)).astype(np.float32)
    parts = Noise()
    for start in range(0, 20, size):
        parts.update(original[start : start + size], judged[start : start + size])
    assert parts.snr_db == pytest.approx(Noise().update(original, judged).snr_db)


def test_sums_are_not_rounded_to_float32() -> None:
    original = np.full(2, 1, np.float32)
    judged = np.float32([1, 1 + 2**-23])
    assert Noise().update(original, judged).snr_db == pytest.approx(10 * math.log10(2 * 2**46))


@pytest.mark.parametrize(
    "judged", [np.ones(3), np.ones((2, 1)), np.array([1, np.nan]), np.array([np.inf, 1])]
)
def test_other_shapes_and_values_that_are_not_finite_are_refused(judged: np.ndarray) -> None:
    with pytest.raises(ValueError):
        Noise().update(np.ones(2, np.float32), judged)
