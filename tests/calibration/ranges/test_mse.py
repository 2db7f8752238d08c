import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.quantizing.scales import INT8_LIMIT, UINT8_LEVELS, Range, activation_scale
from calibration.ranges.histogram import BINS, Histogram
from calibration.ranges.mse import _error_of, mse_amax, mse_range

samples = arrays(np.float32, st.integers(1, 50), elements=st.floats(-1000, 1000, width=32))
generator = np.random.default_rng(0)
_normal = generator.standard_normal(20_000)
DISTRIBUTIONS = {
    "normal": _normal,
    "shifted": _normal * 0.5 + 1,
    "off centre": _normal * 3 - 2,
    "behind relu": np.maximum(_normal, 0),
    "laplace": generator.laplace(size=20_000),
    "heavy tail": generator.standard_t(3, 20_000),
    "lognormal": generator.lognormal(size=20_000),
    "negative": -generator.exponential(size=20_000),
    "uniform": generator.uniform(-1, 4, 20_000),
    "sparse": np.where(generator.random(20_000) < 0.99, 0, _normal),
    "outliers": np.append(0.1 * _normal, [3, 5, -9]),
    "few values": generator.choice([0, -1, 0.3, 2, 7.5], 20_000),
    "one rare negative": np.append(np.abs(_normal), -2.0),
}


def histogram_of(values):
    return Histogram().update(np.asarray(values, np.float32))


def error_of(values, value_range, flavour):
    """Return the mean squared error of the values when they are quantized as in the graphs."""
    values = np.asarray(values, np.float32).astype(np.float64)
    quantizer = activation_scale(value_range, flavour)
    scale, zero_point = float(quantizer.scale), int(quantizer.zero_point)
    lowest, highest = (0, UINT8_LEVELS) if flavour == "cpu" else (-INT8_LIMIT, INT8_LIMIT)
    codes = np.clip(np.rint(values / scale) + zero_point, lowest, highest)
    return float((((codes - zero_point) * scale - values) ** 2).mean())


def ranges_of(values):
    histogram = histogram_of(values)
    return Range(*mse_range(histogram), mse_amax(histogram))


def extents(extreme, count):
    """Return `count` extents from the extreme value down to a sixteenth of the extreme value."""
    return np.linspace(extreme, extreme / 16, count) if extreme > 0 else [0.0]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_uint8_range_is_as_good_as_brute_force(name):
    values = DISTRIBUTIONS[name]
    least = min(
        error_of(values, Range(-low, high, 0), "cpu")
        for low in [*extents(-values.min(), 30), 0.0]
        for high in [*extents(values.max(), 30), 0.0]
        if low or high
    )
    assert error_of(values, ranges_of(values), "cpu") <= 1.01 * least + 1e-12


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_int8_range_is_as_good_as_brute_force(name):
    values = DISTRIBUTIONS[name]
    candidates = extents(np.abs(values).max(), 400)
    least = min(error_of(values, Range(0, 0, amax), "gpu") for amax in candidates)
    assert error_of(values, ranges_of(values), "gpu") <= 1.01 * least + 1e-12


@given(
    step=st.floats(0.3, 200),
    first=st.integers(-255, 0),
    seed=st.integers(0, 100),
    occupied=st.sampled_from([1, 5, 300]),
)
@settings(max_examples=50, deadline=None)
def test_error_is_that_of_values_spread_evenly_in_their_bins(step, first, seed, occupied):
    generator = np.random.default_rng(seed)
    histogram = histogram_of([0, 0, 0, 1.5])
    assert histogram.zeros == 3
    histogram.counts[generator.integers(BINS - 1000, BINS + 1000, occupied)] += 7
    counts = histogram.nonzero_counts()
    assert counts.sum() == histogram.counts.sum() - 3
    filled = np.flatnonzero(counts)
    points = (filled - BINS)[:, None] + (np.arange(2000) + 0.5) / 2000
    # No decision boundary may lie beyond the limit of the histogram, because no such range is ever tried.
    if max(255 + first, -first) * step > BINS:
        step = BINS / 256
    codes = np.clip(np.rint(points / step), first, first + 255)
    expected = (counts[filled] * ((codes * step - points) ** 2).mean(1)).sum()
    (error,) = _error_of(histogram)(np.array([step]), np.array([float(first)]), 256)
    assert error == pytest.approx(expected, rel=1e-4)


@given(values=samples)
@settings(deadline=None)
def test_no_worse_than_keeping_everything(values):
    # |x - Q(x)| changes by no more than x changes. Each of the two estimates may move x by a bin, and so may
    # an end that is taken to the extreme.
    histogram = histogram_of(values)
    low, high = min(values.min(), 0), max(values.max(), 0)
    everything = Range.spanning(float(low), float(high))
    for flavour in ("cpu", "gpu"):
        kept = error_of(values, everything, flavour) ** 0.5
        assert error_of(values, ranges_of(values), flavour) ** 0.5 <= kept + 3 * histogram.width


def test_normal_values_are_clipped_and_uniform_ones_are_not():
    normal = generator.standard_normal(500_000)
    low, high, amax = ranges_of(normal)
    # The best uniform 8-bit quantizer of a normal distribution clips at 3.92 to 4 standard deviations.
    assert amax == pytest.approx(3.95, abs=0.1)
    assert (-low, high) == (pytest.approx(3.95, abs=0.15), pytest.approx(3.95, abs=0.15))
    uniform = generator.uniform(-1, 1, 500_000)
    assert min(-ranges_of(uniform).low, ranges_of(uniform).high, ranges_of(uniform).amax) > 0.99


def test_zeros_do_not_count():
    values = DISTRIBUTIONS["laplace"]
    assert ranges_of(np.append(values, np.zeros(10**6))) == ranges_of(values)


def test_uint8_and_int8_have_ranges_that_differ():
    low, high, amax = ranges_of(np.abs(generator.standard_normal(500_000)))
    # All values are positive, so uint8 has the steps of a 9-bit quantizer here and gains less by clipping.
    assert low == 0
    assert 1.05 * amax < high < 1.2 * amax


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0, 0], (0, 0, 0)),
        ([], (0, 0, 0)),
        ([5.3], (0, 5.3, 5.3)),
        ([-5.3] * 9, (-5.3, 0, 5.3)),
        ([-1e-30, 2], (-1e-30, 2, 2)),
        ([1e-42], (0, 1e-42, 1e-42)),
    ],
    ids=["zeros", "nothing", "one", "negative", "tiny beside large", "denormal"],
)
def test_single_values_are_kept_exactly(values, expected):
    assert ranges_of(values) == tuple(np.float32(end) for end in expected)


def test_parts_merge_to_the_same_range():
    values = DISTRIBUTIONS["heavy tail"]
    parts = [histogram_of(part) for part in np.split(values, [10, 5000])]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert Range(*mse_range(merged), mse_amax(merged)) == ranges_of(values)
