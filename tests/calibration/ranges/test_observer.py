import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.ranges.observer import Observer


def batches_of(seed, sizes):
    generator = np.random.default_rng(seed)
    return [generator.normal(1, 2, (size, 3, 4, 5)).astype(np.float32) for size in sizes]


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@given(st.integers(0, 2**32), SIZES)
def test_means_are_those_of_all_values_whatever_the_batches(seed, sizes):
    batches = batches_of(seed, sizes)
    observer = Observer()
    for batch in batches:
        observer.update(batch)
    means = observer.channel_means()
    assert (means.shape, means.dtype) == ((3,), np.float32)
    exact = np.concatenate(batches).mean((0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(means, exact, rtol=1e-6, atol=1e-7)
    assert observer.histogram.counts.sum() == sum(batch.size for batch in batches)


@given(st.integers(0, 2**32), SIZES, st.randoms(use_true_random=False))
def test_order_of_the_batches_does_not_matter(seed, sizes, random):
    batches = batches_of(seed, sizes)
    shuffled = random.sample(batches, len(batches))
    one, other = Observer(), Observer()
    for batch, moved in zip(batches, shuffled, strict=True):
        one.update(batch)
        other.update(moved)
    np.testing.assert_array_equal(one.histogram.counts, other.histogram.counts)
    np.testing.assert_allclose(one.channel_means(), other.channel_means(), rtol=1e-6, atol=1e-7)


@given(st.integers(0, 2**32), SIZES, SIZES)
def test_merged_observer_has_counted_both_parts(seed, first, second):
    parts = batches_of(seed, [*first, *second])
    merged, other, whole = Observer(), Observer(), Observer()
    for number, batch in enumerate(parts):
        (merged if number < len(first) else other).update(batch)
        whole.update(batch)
    assert merged.merge(other) is merged
    np.testing.assert_array_equal(merged.histogram.counts, whole.histogram.counts)
    np.testing.assert_allclose(merged.channel_means(), whole.channel_means(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("filled_first", [True, False])
def test_merging_with_an_observer_without_batches(filled_first):
    (batch,) = batches_of(0, [2])
    filled, empty = Observer().update(batch), Observer()
    expected = filled.channel_means()
    merged = filled.merge(empty) if filled_first else empty.merge(filled)
    np.testing.assert_array_equal(merged.channel_means(), expected)


def test_merging_leaves_the_sums_of_the_other_alone():
    first, second = (Observer().update(batch) for batch in batches_of(0, [2, 3]))
    expected = second.channel_means()
    empty = Observer().merge(second).merge(first)
    empty.update(np.ones((1, 3, 1, 1), np.float32))
    np.testing.assert_array_equal(second.channel_means(), expected)


def test_many_small_batches_beside_a_large_value_are_counted():
    """In float32 the sum would stay at 2**24, because each 0.5 would be rounded away."""
    observer = Observer().update(np.full((1, 1, 1, 1), 2**24, np.float32))
    for _ in range(64):
        observer.update(np.full((1, 1, 1, 1), 0.5, np.float32))
    assert observer.channel_means()[0] == np.float32((2**24 + 32) / 65)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        Observer().update(np.full((1, 1, 1, 1), value, np.float32))
