import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sample_networks import sample_card

from data.dataset import Dataset, Split
from graphs.card import Batch
from models.config import resnet_config
from verification.compare import BATCH, Comparison, compare, logits_of_split

# Signal 3² + 4² + 1² + 2² = 30.
ORIGINAL = np.array([[3, 4, 0], [1, 0, 2]], np.float32)
LABELS = np.array([1, 2])

# Eighths: scaling them rounds nothing.
logits = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 5)),
    elements=st.integers(-800, 800).map(lambda eighths: eighths / 8),
)


def _with(*changes: tuple[int, int, float]) -> Batch:
    changed = ORIGINAL.copy()
    for image, label, value in changes:
        changed[image, label] = value
    return changed


def test_identical_logits_have_no_noise() -> None:
    assert compare(ORIGINAL, ORIGINAL.copy(), LABELS) == Comparison(2, math.inf, 0, 100, 100, 0)


@pytest.mark.parametrize(
    ("engine", "labels", "expected"),
    [
        # noise 3 of 30: 10 dB, the error on the first image not enough to change its class
        (_with((0, 2, math.sqrt(3))), [1, 2], Comparison(2, 10, math.sqrt(3), 100, 100, 0)),
        # noise 0.3 in two places: 20 dB
        (
            _with((0, 0, 3 + math.sqrt(0.15)), (1, 1, math.sqrt(0.15))),
            [1, 2],
            Comparison(2, 20, math.sqrt(0.15), 100, 100, 0),
        ),
        # the second image turns from class 2, which is right, to class 0
        (_with((1, 0, 4)), [1, 2], Comparison(2, 10 * math.log10(30 / 9), 3, 50, 50, 50)),
        # and here class 0 is right: the drop is a gain
        (_with((1, 0, 4)), [1, 0], Comparison(2, 10 * math.log10(30 / 9), 3, 50, 100, -50)),
        # both wrong before and after, on another class
        (_with((1, 0, 4)), [0, 1], Comparison(2, 10 * math.log10(30 / 9), 3, 50, 0, 0)),
        # noise as large as the signal, and ten times that
        (np.zeros((2, 3)), [0, 0], Comparison(2, 0, 4, 0, 100, -100)),
        (ORIGINAL * (1 + math.sqrt(10)), [1, 2], Comparison(2, -10, 4 * math.sqrt(10), 100, 100, 0)),
    ],
)
def test_figures_by_hand(engine: Batch, labels: list[int], expected: Comparison) -> None:
    found = compare(ORIGINAL, engine.astype(np.float32), np.array(labels))
    assert found.images == expected.images
    assert found.snr_db == pytest.approx(expected.snr_db, abs=1e-5)
    assert found.max_error == pytest.approx(expected.max_error, rel=1e-6)
    assert (found.agreement, found.accuracy, found.drop) == (
        expected.agreement,
        expected.accuracy,
        expected.drop,
    )


def test_no_signal_is_not_mistaken_for_parity() -> None:
    silent = np.zeros((2, 3), np.float32)
    assert compare(silent, ORIGINAL, LABELS).snr_db == -math.inf
    assert compare(silent, silent, LABELS).snr_db == math.inf


def test_noise_is_summed_in_double_precision() -> None:
    """One part in 2**24 of a logit, and of many: float32 sums would lose it."""
    original = np.ones((1000, 10), np.float32)
    engine = original + np.float32(2**-23)
    found = compare(original, engine, np.zeros(1000, np.int64))
    assert found.snr_db == pytest.approx(20 * math.log10(2**23), abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("faulty", ["original", "engine", "both"])
def test_values_that_are_not_finite_fail(value: float, faulty: str) -> None:
    broken = _with((1, 1, value))
    pair = {"original": (broken, ORIGINAL), "engine": (ORIGINAL, broken), "both": (broken, broken)}
    with pytest.raises(ValueError, match="not finite"):
        compare(*pair[faulty], LABELS)


def test_comparing_nothing_fails() -> None:
    nothing = np.zeros((0, 3), np.float32)
    with pytest.raises(ValueError, match="comparing nothing"):
        compare(nothing, nothing, np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("engine", "labels"),
    [((1, 3), 2), ((2, 2), 2), ((2, 4), 2), ((3, 3), 2), ((6,), 2), ((2, 3), 1), ((2, 3), 3)],
)
def test_shapes_that_do_not_match_fail(engine: tuple[int, ...], labels: int) -> None:
    """Among them those that NumPy would broadcast."""
    with pytest.raises(ValueError, match="do not match"):
        compare(ORIGINAL, np.zeros(engine, np.float32), np.zeros(labels, np.int64))


@settings(deadline=None)
@given(original=logits, scale=st.sampled_from([0.25, 2.0, 1024.0]), seed=st.integers(0, 2**32 - 1))
def test_figures_do_not_depend_on_order_or_unit(original: Batch, scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    engine = original + generator.standard_normal(original.shape, np.float32)
    labels = generator.integers(0, original.shape[1], len(original))
    order = generator.permutation(len(original))
    figures = compare(original, engine, labels)
    shuffled = compare(original[order] * scale, engine[order] * scale, labels[order])
    assert shuffled.snr_db == pytest.approx(figures.snr_db, abs=1e-9)
    assert shuffled.max_error == scale * figures.max_error
    assert shuffled.agreement == figures.agreement
    assert shuffled.accuracy == figures.accuracy
    assert shuffled.drop == figures.drop


@settings(deadline=None)
@given(original=logits, seed=st.integers(0, 2**32 - 1))
def test_shares_are_in_per_cent_and_drop_is_bounded_by_disagreement(original: Batch, seed: int) -> None:
    generator = np.random.default_rng(seed)
    engine = original + 10 * generator.standard_normal(original.shape, np.float32)
    labels = generator.integers(0, original.shape[1], len(original))
    figures = compare(original, engine, labels)
    assert 0 <= figures.agreement <= 100
    assert 0 <= figures.accuracy <= 100
    assert abs(figures.drop) <= 100 - figures.agreement + 1e-9


class Recorder:
    """A runtime that gives each image's mean and first pixel, and remembers its batches."""

    def __init__(self, batch: int = 0) -> None:
        self.batches: list[int] = []
        self.card = replace(sample_card(resnet_config("preact", 8)), batch=batch)

    def infer(self, images: Batch) -> Batch:
        self.batches.append(len(images))
        return np.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], axis=1)


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 50])
def test_split_is_fed_in_batches_of_one_size(digits: Dataset, count: int) -> None:
    split = Split(digits.train.images[:count], digits.train.labels[:count])
    runtime = Recorder()
    found = logits_of_split(runtime, digits, split, "fed")  # type: ignore[arg-type]
    assert set(runtime.batches) == {BATCH}
    np.testing.assert_array_equal(found, Recorder().infer(digits.normalised(split.images)))


def test_an_artifact_of_a_fixed_batch_is_fed_batches_of_that_size(digits: Dataset) -> None:
    split = Split(digits.train.images[:7], digits.train.labels[:7])
    runtime = Recorder(batch=4)
    fed = logits_of_split(runtime, digits, split, "fed")  # type: ignore[arg-type]
    assert runtime.batches == [4, 4]
    np.testing.assert_array_equal(fed, Recorder().infer(digits.normalised(split.images)))


def test_progress_is_told_how_many_batches_there_are(digits: Dataset) -> None:
    told = []

    def progress(items, description, total=None):
        told.append((description, total))
        return iter(items)

    split = Split(digits.train.images[:250], digits.train.labels[:250])
    logits_of_split(Recorder(), digits, split, "ort fp32", progress)  # type: ignore[arg-type]
    assert told == [("ort fp32", 3)]
