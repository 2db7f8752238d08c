import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.quantizing.scales import Range
from calibration.ranges.entropy import entropy_threshold
from calibration.ranges.histogram import Histogram
from calibration.ranges.methods import DEFAULT_METHOD, DEFAULT_PERCENTILE, METHODS, Method
from calibration.ranges.mse import mse_amax, mse_range
from errors import UserError

samples = arrays(np.float32, st.integers(1, 50), elements=st.floats(-1000, 1000, width=32))


def histogram_of(values):
    return Histogram().update(np.asarray(values, np.float32))


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(0).normal(0.3, 2, 100_000).astype(np.float32)


def test_minmax_is_all_that_was_seen(normal):
    low, high = float(normal.min()), float(normal.max())
    assert Method("minmax").range_of(histogram_of(normal)) == (low, high, max(-low, high))


@pytest.mark.parametrize("percentile", [60, 99, 99.9, 99.99])
def test_percentile_is_numpys_at_either_end(normal, percentile):
    histogram = histogram_of(normal)
    low, high, amax = Method("percentile", percentile).range_of(histogram)
    assert amax == max(-low, high)
    # The histogram is exact to a bin, and numpy's interpolation in the thin tails may take another bin.
    width = 2 * histogram.width
    gap = 0.1 if percentile > 99.9 else 0
    assert low == pytest.approx(min(0, np.percentile(normal, 100 - percentile)), abs=width + gap)
    assert high == pytest.approx(np.percentile(normal, percentile), abs=width + gap)
    inside = ((normal >= low) & (normal <= high)).mean()
    assert inside >= 1 - 2 * (1 - percentile / 100) - 1e-9


def test_percentile_leaves_out_an_outlier_that_minmax_takes():
    values = np.append(np.linspace(-1, 1, 20_001), [50, -60])
    assert Method("minmax").range_of(histogram_of(values)) == (-60, 50, 60)
    low, high, _ = Method("percentile", 99.9).range_of(histogram_of(values))
    assert low == pytest.approx(-1, abs=0.05)
    assert high == pytest.approx(1, abs=0.05)


def test_entropy_clips_both_ends_at_its_threshold(normal):
    skewed = histogram_of(np.append(normal, np.full(10, -30, np.float32)))
    threshold = entropy_threshold(skewed)
    assert threshold < 30
    expected = (-threshold, min(threshold, skewed.maximum), threshold)
    assert Method("entropy").range_of(skewed) == expected
    positive = histogram_of(np.abs(normal))
    assert Method("entropy").range_of(positive) == (0, *2 * (entropy_threshold(positive),))


def test_mse_is_chosen_for_each_quantizer(normal):
    histogram = histogram_of(normal)
    chosen = Method("mse").range_of(histogram)
    assert chosen == (*mse_range(histogram), mse_amax(histogram))
    assert chosen.amax < max(-chosen.low, chosen.high)


@given(values=samples)
@settings(deadline=None)
def test_percentile_of_100_is_minmax(values):
    histogram = histogram_of(values)
    assert Method("percentile", 100).range_of(histogram) == Method("minmax").range_of(histogram)


@given(values=samples, name=st.sampled_from(sorted(METHODS)), percentile=st.floats(50.01, 100))
@settings(deadline=None)
def test_range_contains_zero_and_nothing_unseen(values, name, percentile):
    low, high, amax = Method(name, percentile).range_of(histogram_of(values))
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)
    assert 0 <= amax <= np.abs(values).max()


@given(values=samples, percentile=st.floats(50.01, 99.9))
@settings(deadline=None)
def test_mirrored_values_have_the_mirrored_range(values, percentile):
    # A mirrored value on the edge of two bins lies in the other bin, so the ranges may differ by a bin.
    histogram = histogram_of(values)
    low, high, amax = Method("percentile", percentile).range_of(histogram)
    mirrored = Method("percentile", percentile).range_of(histogram_of(-values))
    width = histogram.width
    assert mirrored.low == pytest.approx(-high, abs=width)
    assert mirrored.high == pytest.approx(-low, abs=width)
    assert mirrored.amax == pytest.approx(amax, abs=width)


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (0, 3)), ([-3.0], (-3, 0)), ([0.0, 0.0], (0, 0)), ([0.0, 0.0, 5.0], (0, 5))],
    ids=["positive", "negative", "zero", "rectified"],
)
def test_one_sided_values(name, values, expected):
    assert Method(name).range_of(histogram_of(values)) == Range.spanning(*expected)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_nothing_seen_is_the_empty_range(name):
    assert Method(name).range_of(Histogram()) == (0, 0, 0)


def test_default():
    assert Method() == Method(DEFAULT_METHOD, DEFAULT_PERCENTILE)


def test_options_left_out_are_the_defaults():
    assert Method.from_options() == Method()
    assert Method.from_options("minmax") == Method("minmax")
    assert Method.from_options(percentile=99.9) == Method(DEFAULT_METHOD, 99.9)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"percentile"}))
def test_percentile_for_a_method_without_one_is_refused(name):
    with pytest.raises(
        UserError, match=f"--percentile 99.9 was given, and --method {name} takes no percentile"
    ) as caught:
        Method.from_options(name, 99.9)
    assert "--percentile" in caught.value.fix
    assert Method.from_options("percentile", 99.9) == Method("percentile", 99.9)


def test_method_is_told_with_its_percentile_where_that_counts():
    assert str(Method("percentile", 99.9)) == "percentile 99.9"
    assert str(Method("minmax", 99.9)) == "minmax"


def test_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="unknown --method 'median'") as caught:
        Method("median")
    assert all(name in caught.value.fix for name in METHODS)


@pytest.mark.parametrize("percentile", [50, 0, -1, 100.01, float("nan"), float("inf")])
def test_bad_percentile_is_refused(percentile):
    with pytest.raises(UserError, match=f"--percentile must be over 50 and at most 100, got {percentile:g}"):
        Method("percentile", percentile)


def test_json_holds_what_decides_the_result_and_no_more():
    assert Method("percentile", 99.9).to_json() == {"name": "percentile", "percentile": 99.9}
    assert Method("minmax", 99.9).to_json() == Method("minmax").to_json() == {"name": "minmax"}
