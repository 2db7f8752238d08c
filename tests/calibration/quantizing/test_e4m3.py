import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.quantizing.e4m3 import E4M3, E4M3_LIMIT, e4m3_activation_scale, e4m3_codes, e4m3_weight_scale
from calibration.quantizing.scales import Range


def every_e4m3():
    """Make all finite numbers from the bits: a sign, 4 bits of exponent with bias 7, 3 of mantissa."""
    exponent, mantissa = np.divmod(np.arange(127), 8)
    positive = np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10), mantissa * 2.0**-9)
    return np.concatenate([-positive[::-1], positive])


def nearest(values):
    """Search the nearest E4M3 number; of two that are equally near, take the one with an even code."""
    table = every_e4m3()
    even = np.abs(np.arange(-127, 127) + (np.arange(254) < 127)) % 2
    distance = np.abs(values[:, None] - table[None])
    ties = np.where(distance == distance.min(1, keepdims=True), even[None], 2)
    return table[ties.argmin(1)]


def test_largest_is_448():
    assert every_e4m3().max() == E4M3_LIMIT == 448


def test_codes_are_the_nearest_numbers_ties_to_even_and_saturate():
    generator = np.random.default_rng(0)
    table = every_e4m3()
    between = (table[1:] + table[:-1]) / 2
    values = np.concatenate([table, between, generator.normal(0, 100, 2000), [449, 1e6, -1e6]])
    codes = e4m3_codes(values.astype(np.float32), np.asarray(1, np.float32))
    assert codes.dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_array_equal(
        codes.astype(np.float64), nearest(np.clip(values.astype(np.float32).astype(np.float64), -448, 448))
    )


@given(st.floats(2.0**-6, 448, width=32), st.floats(1e-4, 100))
def test_error_is_a_sixteenth_of_the_number_at_most(ratio, scale):
    scale = np.asarray(scale, np.float32)
    value = np.float32(ratio) * scale
    decoded = np.float64(e4m3_codes(np.asarray([value]), scale).astype(np.float64)[0]) * float(scale)
    assert abs(decoded - float(value)) <= abs(float(value)) * 2.0**-4 * 1.0001


@pytest.mark.parametrize(("low", "high", "amax"), [(-2, 3, 3), (-4, 3, 4), (0, 448, 448), (0, 2, 1.5)])
def test_activation_scale_puts_the_symmetric_clip_point_at_448(low, high, amax):
    scale = e4m3_activation_scale(Range(low, high, amax))
    assert scale.scale == np.float32(amax / 448)
    assert isinstance(scale.zero_point, E4M3) and float(scale.zero_point) == 0


def test_tensors_of_zeros_have_scale_one():
    assert e4m3_activation_scale(Range(0, 0, 0)).scale == 1
    assert e4m3_weight_scale(np.zeros((2, 3, 1, 1), np.float32)) == 1


def test_largest_weight_becomes_448():
    weight = np.random.default_rng(0).normal(0, 0.1, (4, 3, 3, 3)).astype(np.float32)
    codes = e4m3_codes(weight, np.asarray(e4m3_weight_scale(weight)))
    assert np.abs(codes.astype(np.float32)).max() == 448


def test_scales_are_never_too_small_for_float16():
    assert np.float16(e4m3_activation_scale(Range.spanning(-1e-9, 1e-9)).scale) > 0
    assert np.float16(e4m3_weight_scale(np.full((1, 1, 1, 1), 1e-9, np.float32))) > 0
