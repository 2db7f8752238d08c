import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.ranges.histogram import BINS, Histogram

# All finite float32 numbers: tiny, huge and subnormal ones, and zeros of both signs.
anything = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Zeros and magnitudes that occur together in one network, from which most examples are drawn.
activations = st.just(0.0) | st.floats(-1000, 1000, width=32)
samples = arrays(np.float32, st.integers(1, 60), elements=st.one_of(activations, anything))


def histogram_of(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.update(np.asarray(part, np.float32))
    return histogram


def state_of(histogram):
    """Return everything that the quantiles are computed from."""
    counts = histogram.counts.tolist()
    return (histogram.exponent, histogram.minimum, histogram.maximum, histogram.zeros, counts)


@given(values=samples, data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_order_and_batching_counts_the_same(values, data):
    whole = histogram_of(values)
    order = data.draw(st.permutations(range(len(values))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=6)))
    parts = np.split(values[order], cuts)
    assert state_of(histogram_of(*parts)) == state_of(whole)


@given(values=samples, data=st.data())
@settings(max_examples=200, deadline=None)
def test_histograms_of_parts_merge_to_that_of_the_whole(values, data):
    cut = data.draw(st.integers(0, len(values)))
    parts = values[:cut], values[cut:]
    left_first = histogram_of(parts[0]).merge(histogram_of(parts[1]))
    right_first = histogram_of(parts[1]).merge(histogram_of(parts[0]))
    assert state_of(left_first) == state_of(right_first) == state_of(histogram_of(values))


def test_merging_nothing_changes_nothing():
    full = histogram_of([1, -2, 3])
    before = state_of(full)
    assert state_of(full.merge(Histogram())) == before
    assert state_of(Histogram().merge(full)) == before


def test_merging_keeps_the_counts_of_the_merged_histogram():
    small, large = histogram_of([0.5, 0.25]), histogram_of([100.0])
    large.merge(small)
    assert (small.counts.sum(), small.minimum, small.maximum) == (2, 0.25, 0.5)


@given(values=samples)
@settings(deadline=None)
def test_every_value_lies_in_its_bin(values):
    histogram = histogram_of(values)
    # Edges and values are compared in float64, where the comparison is exact.
    index = np.searchsorted(histogram.edges, values.astype(np.float64), side="right") - 1
    np.testing.assert_array_equal(histogram.counts, np.bincount(index, minlength=2 * BINS))


@given(values=samples)
@settings(deadline=None)
def test_minimum_and_maximum_are_exact(values):
    histogram = histogram_of(*values.reshape(-1, 1))
    assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())


@given(values=samples, share=st.sampled_from([0.5, 0.75, 0.9375, 0.9990234375, 1.0]))
@settings(deadline=None)
def test_quantile_is_at_most_a_bin_above_numpys(values, share):
    histogram = histogram_of(values)
    # This is the smallest value that at least `share` of all values do not exceed.
    exact = np.quantile(values.astype(np.float64), share, method="inverted_cdf")
    width = histogram.width
    assert exact <= histogram.quantile(share) <= min(exact + width, float(values.max()))


def test_quantile_is_the_upper_edge_of_a_bin():
    histogram = histogram_of(np.linspace(0, 1, 1001))
    assert histogram.limit == 2.0
    assert histogram.quantile(0.5) == math.ceil(0.5 * BINS / 2 + 1e-9) * 2 / BINS
    assert histogram.quantile(1.0) == 1.0


def test_percentile_of_many_values_is_numpys():
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    histogram = histogram_of(*np.array_split(values, 7))
    width = histogram.width
    for share in (0.9, 0.99, 0.999, 0.9999):
        assert abs(histogram.quantile(share) - np.quantile(values, share)) <= 1.5 * width


@given(values=samples)
@settings(deadline=None)
def test_limit_is_at_most_twice_the_largest_magnitude(values):
    histogram = histogram_of(values)
    largest = float(np.abs(values).max())
    assert largest <= histogram.limit
    if largest > 1e-30:
        assert histogram.limit <= 2 * largest


def test_zeros_alone():
    histogram = histogram_of(np.zeros((4, 3, 2)))
    assert (histogram.minimum, histogram.maximum, histogram.quantile(0.9999)) == (0, 0, 0)
    assert histogram.counts.sum() == 24


def test_batch_of_zeros_keeps_the_bins_fine():
    # A ReLU may give nothing but zeros for a whole batch.
    for parts in (([0, 0], [1e-3]), ([1e-3], [0, 0]), ([0, 0, 1e-3],)):
        assert histogram_of(*parts).limit == 2.0**-9


def test_negative_values_alone():
    histogram = histogram_of([-1.5, -3.0, -2.0])
    assert (histogram.minimum, histogram.maximum) == (-3, -1.5)
    assert histogram.counts[BINS:].sum() == 0
    assert histogram.quantile(1) == -1.5
    assert -3 <= histogram.quantile(1 / 3) <= -3 + histogram.width


def test_negative_zero_is_zero():
    assert state_of(histogram_of([-0.0, 1])) == state_of(histogram_of([0.0, 1]))


@pytest.mark.parametrize("parts", [([1e-20], [1e20]), ([1e20], [1e-20])], ids=["up", "down"])
def test_growth_by_any_ratio_keeps_all_counts(parts):
    histogram = histogram_of(*parts)
    assert histogram.counts.sum() == 2
    assert histogram.counts[BINS] == 1
    assert (histogram.minimum, histogram.maximum) == (np.float32(1e-20), np.float32(1e20))


@pytest.mark.parametrize("parts", [([-1e-30], [1e38]), ([1e38], [-1e-30])], ids=["up", "down"])
def test_tiny_negative_value_stays_on_its_side(parts):
    assert histogram_of(*parts).counts[BINS - 1] == 1


def test_denormals():
    smallest = np.float32(1e-45)
    assert smallest > 0
    histogram = histogram_of([smallest, -smallest, 0])
    assert (histogram.minimum, histogram.maximum) == (-smallest, smallest)
    assert (histogram.counts[:BINS].sum(), histogram.counts[BINS:].sum()) == (1, 2)
    assert histogram.quantile(1) == smallest


def test_largest_float():
    largest = np.finfo(np.float32).max
    histogram = histogram_of([largest, -largest])
    assert (histogram.counts[0], histogram.counts[-1]) == (1, 1)
    assert histogram.quantile(1) == largest


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused_and_nothing_counted(value):
    histogram = histogram_of([1, 2])
    before = state_of(histogram)
    with pytest.raises(ValueError, match="not finite"):
        histogram.update(np.array([5, value, 0], np.float32))
    assert state_of(histogram) == before


def test_no_values_count_nothing():
    assert state_of(histogram_of([], [1.0], np.zeros((0, 3)))) == state_of(histogram_of([1.0]))
    assert histogram_of([]).exponent is None


def test_input_is_not_changed():
    values = np.array([-1.5, 2.5, 0.1], np.float32)
    before = values.copy()
    histogram_of(values)
    np.testing.assert_array_equal(values, before)


def test_transposed_arrays_count_the_same():
    values = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
    assert state_of(Histogram().update(values.transpose(2, 0, 1))) == state_of(histogram_of(values))


@given(values=samples)
@settings(deadline=None)
def test_zeros_are_counted_exactly(values):
    histogram = histogram_of(*values.reshape(-1, 1))
    assert histogram.zeros == (values == 0).sum()
    inside = values[values != 0].astype(np.float64)
    index = np.searchsorted(histogram.edges, inside, side="right") - 1
    np.testing.assert_array_equal(histogram.nonzero_counts(), np.bincount(index, minlength=2 * BINS))


@given(values=samples)
@settings(deadline=None)
def test_magnitudes_are_those_of_the_values(values):
    histogram, expected = histogram_of(values).magnitudes(), histogram_of(np.abs(values))
    assert (histogram.exponent, histogram.zeros) == (expected.exponent, expected.zeros)
    assert histogram.maximum == histogram.amax == np.abs(values).max()
    # A negative value on an edge of two bins counts in the lower bin.
    lower = expected.counts.cumsum() - histogram.counts.cumsum()
    on_edge = np.isin(-values.astype(np.float64), expected.edges[BINS + 1 :]).sum()
    assert -on_edge <= lower.min() <= lower.max() <= 0
    assert histogram.counts.sum() == len(values)


@given(values=samples)
@settings(deadline=None)
def test_mirrored_twice_is_itself(values):
    histogram = histogram_of(values)
    assert state_of(histogram.mirrored().mirrored()) == state_of(histogram)
    assert (histogram.mirrored().minimum, histogram.mirrored().maximum) == (-values.max(), -values.min())


@given(values=arrays(np.float32, st.integers(1, 60), elements=activations))
@settings(deadline=None)
def test_moments_are_numpys_to_a_bin(values):
    histogram = histogram_of(values)
    mean, std = histogram.moments()
    assert mean == pytest.approx(values.mean(dtype=np.float64), abs=histogram.width)
    assert std == pytest.approx(values.std(dtype=np.float64), abs=histogram.width)


def test_at_least_2048_bins_cover_the_values():
    for largest in (1.0, 1.001, 1.999, 300.0, 1e-3):
        histogram = histogram_of([0.1 * largest, -largest])
        assert 2048 <= largest / histogram.width <= BINS
