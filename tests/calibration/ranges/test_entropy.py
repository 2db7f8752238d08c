import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from calibration.ranges.entropy import LEVELS, divergences, entropy_threshold
from calibration.ranges.histogram import BINS, Histogram


def histogram_of(values):
    return Histogram().update(np.asarray(values, np.float32))


def reference_divergence(counts, kept):
    """Compute the divergence of one candidate as the published algorithm does, step by step."""
    bins = np.array(counts, float)
    bins[0] = bins[1]
    reference = bins[:kept].copy()
    reference[-1] += bins[kept:].sum()
    level = np.arange(kept) * LEVELS // kept
    candidate = np.zeros(kept)
    for number in range(LEVELS):
        merged = level == number
        occupied = merged & (bins[:kept] > 0)
        if occupied.any():
            candidate[occupied] = bins[:kept][merged].sum() / occupied.sum()
    if not candidate.any():
        return np.inf
    return rel_entr(reference / reference.sum(), candidate / candidate.sum()).sum()


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(0).standard_normal(500_000).astype(np.float32)


@given(
    size=st.integers(LEVELS, 300),
    seed=st.integers(0, 1000),
    empty=st.sampled_from([0, 0.3, 0.9, 0.99]),
    spike=st.sampled_from([0, 1, 10**9]),
)
@settings(max_examples=20, deadline=None)
def test_divergences_are_those_of_the_published_algorithm(size, seed, empty, spike):
    generator = np.random.default_rng(seed)
    counts = np.round(1e5 * np.exp(-np.arange(size) / generator.uniform(5, 400))).astype(np.int64)
    counts = np.where(generator.random(size) < empty, 0, counts + generator.integers(0, 9, size))
    counts[0], counts[-1] = spike, counts[-1] + 1
    expected = [reference_divergence(counts, kept) for kept in range(LEVELS, size + 1)]
    np.testing.assert_allclose(divergences(counts), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scale", [1, 0.26, 1000])
def test_threshold_is_the_edge_of_the_least_divergence(normal, scale):
    histogram = histogram_of(np.maximum(scale * normal[:20_000], -scale))
    counts = histogram.magnitudes().counts[BINS:]
    size = np.flatnonzero(counts)[-1] + 1
    # TensorRT has 2,048 bins, and no fewer may cover the values here.
    assert size >= 2048
    kept = round(entropy_threshold(histogram) / histogram.width)
    assert entropy_threshold(histogram) == kept * histogram.width
    least = reference_divergence(counts, kept)
    for other in {LEVELS, *range(kept - 3, kept + 4), *range(LEVELS, size, 53), size}:
        assert least <= reference_divergence(counts, min(other, size)) + 1e-11


def test_uniform_values_are_all_kept():
    values = np.random.default_rng(0).uniform(0, 3, 200_000)
    assert entropy_threshold(histogram_of(values)) > 0.99 * values.max()


def test_normal_values_are_clipped_in_their_tail(normal):
    threshold = entropy_threshold(histogram_of(normal))
    assert 2.5 < threshold < 0.95 * np.abs(normal).max()
    assert 0.98 < (np.abs(normal) <= threshold).mean() < 1


def test_outlier_is_clipped(normal):
    assert entropy_threshold(histogram_of(np.append(normal, 12.0))) < 6


def test_sign_does_not_count(normal):
    # A negative value on an edge of two bins would move to the other bin; only 0 lies on an edge here.
    values = normal[normal != 0]
    assert entropy_threshold(histogram_of(values)) == entropy_threshold(histogram_of(np.abs(values)))


def test_spike_at_zero_does_not_count(normal):
    behind_relu = np.maximum(normal, 0)
    spike = np.zeros(5_000_000, np.float32)
    assert entropy_threshold(histogram_of(np.append(behind_relu, spike))) == entropy_threshold(
        histogram_of(normal[normal > 0])
    )


def test_few_distinct_values_are_all_kept():
    # Each value has a level for itself, so this candidate loses nothing. Of all candidates without a loss the
    # widest is taken.
    values = np.repeat([0, 0.5, 1.25, 2.0, 3.9], [1000, 5, 9, 700, 1])
    assert entropy_threshold(histogram_of(values)) == np.float32(3.9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 0], 0), ([], 0), ([5.3], 5.3), ([-5.3], 5.3), ([1e-40], 1e-40), ([0, -7, 0], 7)],
    ids=["zeros", "nothing", "one", "negative", "denormal", "spike"],
)
def test_values_without_a_tail_are_not_clipped(values, expected):
    assert entropy_threshold(histogram_of(values)) == np.float32(expected)


def test_parts_merge_to_the_same_threshold(normal):
    parts = [histogram_of(part) for part in np.split(normal, [10, 5000])]
    whole = entropy_threshold(histogram_of(normal))
    assert entropy_threshold(parts[2].merge(parts[0]).merge(parts[1])) == whole
