import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.dataset import (
    Dataset,
    Split,
    calibration_indices,
    channel_statistics,
    check_disjoint,
    dataset_from_splits,
    image_hashes,
    normalised,
)
from errors import UserError

CLASSES = ("zero", "one", "two")


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def split(count: int, seed: int = 0) -> Split:
    """Return random pictures, whose classes take turns."""
    return Split(pictures(count, seed), np.arange(count, dtype=np.int64) % len(CLASSES))


def contents(part: Split) -> set[tuple[bytes, int]]:
    return set(zip(image_hashes(part.images), part.labels.tolist(), strict=True))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_from_splits("mine", CLASSES, split(90), split(30, seed=1))


def test_layout_and_sizes(dataset: Dataset) -> None:
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (78, 12, 30)
    for part in (dataset.train, dataset.calibration, dataset.test):
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part), 3, 32, 32)
        assert part.labels.dtype == np.int64
        assert part.labels.shape == (len(part),)
    with pytest.raises(FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]


def test_train_and_calibration_part_the_training_images(dataset: Dataset) -> None:
    training = split(90)
    assert contents(dataset.train) | contents(dataset.calibration) == contents(training)
    assert not contents(dataset.train) & contents(dataset.calibration)
    assert contents(dataset.test) == contents(split(30, seed=1))


def test_images_keep_their_labels(dataset: Dataset) -> None:
    known = contents(split(90))
    assert contents(dataset.train) <= known
    assert contents(dataset.calibration) <= known


def test_calibration_is_balanced(dataset: Dataset) -> None:
    assert np.bincount(dataset.calibration.labels).tolist() == [4, 4, 4]


def test_calibration_takes_the_smallest_hashes_of_each_class(dataset: Dataset) -> None:
    training = split(90)
    hashes = np.array([h.hex() for h in image_hashes(training.images)])
    for label in range(3):
        smallest = sorted(hashes[training.labels == label])[:4]
        held_out = dataset.calibration.images[dataset.calibration.labels == label]
        assert sorted(h.hex() for h in image_hashes(held_out)) == smallest


def test_calibration_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.dataset.CALIBRATION_IMAGES", 15)
    assert len(dataset_from_splits("mine", CLASSES, split(300), split(30, seed=1)).calibration) == 15


@pytest.mark.parametrize(("count", "calibration"), [(24, 12), (90, 12), (120, 12), (150, 15), (210, 21)])
def test_calibration_is_a_tenth_and_at_least_ten(count: int, calibration: int) -> None:
    dataset = dataset_from_splits("mine", CLASSES, split(count), split(30, seed=1))
    assert len(dataset.calibration) == calibration


@pytest.mark.parametrize("order", ["reversed", "shuffled", "sorted by class"])
def test_the_cut_does_not_depend_on_the_order_of_the_training_images(dataset: Dataset, order: str) -> None:
    training = split(90)
    indices = {
        "reversed": np.arange(90)[::-1],
        "shuffled": np.random.default_rng(2).permutation(90),
        "sorted by class": np.argsort(training.labels, kind="stable"),
    }[order]
    shuffled = dataset_from_splits("mine", CLASSES, training.subset(indices), split(30, seed=1))
    assert contents(shuffled.calibration) == contents(dataset.calibration)
    assert contents(shuffled.train) == contents(dataset.train)


pool = pictures(12, seed=3)


@st.composite
def overlapping_splits(draw: st.DrawFn) -> tuple[Split, Split]:
    """Both splits are drawn from few pictures, so that there are copies within and across the splits."""
    rows = st.lists(st.tuples(st.integers(0, len(pool) - 1), st.integers(0, 2)), min_size=1, max_size=40)
    parts = []
    for _ in range(2):
        drawn = np.array(draw(rows))
        parts.append(Split(pool[drawn[:, 0]], drawn[:, 1].astype(np.int64)))
    return parts[0], parts[1]


@settings(max_examples=60, deadline=None)
@given(parts=overlapping_splits(), seed=st.integers(0, 5))
def test_whatever_the_copies_calibration_is_free_of_them(parts: tuple[Split, Split], seed: int) -> None:
    training, test = parts
    order = np.random.default_rng(seed).permutation(len(training))
    shuffled = training.subset(order)
    try:
        chosen = calibration_indices(training, test)
    except UserError as error:
        assert "no training image is left to calibrate on" in error.problem
        with pytest.raises(UserError):
            calibration_indices(shuffled, test)
        return
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    hashes = image_hashes(training.images[chosen])
    assert len(set(hashes)) == len(hashes), "a picture was chosen twice"
    assert not set(hashes) & set(image_hashes(test.images))
    left = np.delete(training.labels, chosen)
    assert set(left) == set(training.labels), "a class has no image left to train on"
    again = calibration_indices(shuffled, test)
    assert contents(shuffled.subset(again)) == contents(training.subset(chosen))


def test_each_picture_of_a_split_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counting(images: np.ndarray) -> list[bytes]:
        hashed.append(len(images))
        return image_hashes(images)

    monkeypatch.setattr("data.dataset.image_hashes", counting)
    dataset = dataset_from_splits("mine", CLASSES, split(90), split(30, seed=1))
    assert sorted(hashed) == [len(dataset.calibration), 30, 90]
    assert dataset.test.hashes is dataset.test.hashes
    assert list(dataset.test.hashes) == image_hashes(dataset.test.images)


def test_images_of_the_test_split_are_passed_over() -> None:
    training = split(90)
    undisturbed = contents(dataset_from_splits("mine", CLASSES, training, split(30, seed=1)).calibration)
    leaked = calibration_indices(training, split(30, seed=1))[:4]
    dataset = dataset_from_splits("mine", CLASSES, training, training.subset(leaked))
    assert len(dataset.calibration) == 12, "the next ones take their places"
    assert not contents(dataset.calibration) & contents(training.subset(leaked))
    assert len(contents(dataset.calibration) & undisturbed) == 8


def test_a_training_set_that_is_the_test_set_is_refused() -> None:
    with pytest.raises(UserError, match="every one is in the test split too: give training and test folders"):
        dataset_from_splits("mine", CLASSES, split(30), split(30))


def test_check_disjoint_catches_a_seeded_fault() -> None:
    calibration, test = split(20), split(20, seed=1)
    check_disjoint(calibration, test)
    images = test.images.copy()
    images[[7, 9]] = calibration.images[[3, 4]]
    with pytest.raises(UserError, match="2 calibration images are in the test split too"):
        check_disjoint(calibration, Split(images, test.labels))


def test_one_pixel_makes_another_picture() -> None:
    first = pictures(1)
    second = first.copy()
    second[0, 2, 31, 31] ^= 1
    assert image_hashes(first) != image_hashes(second)
    check_disjoint(Split(first, np.zeros(1, np.int64)), Split(second, np.zeros(1, np.int64)))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 6), low=st.integers(0, 250), spread=st.integers(2, 256), seed=st.integers(0, 99))
def test_statistics_against_numpy_on_floats(count: int, low: int, spread: int, seed: int) -> None:
    high = min(256, low + spread)
    images = np.random.default_rng(seed).integers(low, high, (count, 3, 32, 32), np.uint8)
    mean, std = channel_statistics(images)
    as_floats = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, as_floats.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, as_floats.std(axis=(0, 2, 3)), rtol=1e-10)
    assert all(type(value) is float for value in (*mean, *std))


def test_statistics_are_of_all_training_images_and_of_no_test_image(dataset: Dataset) -> None:
    as_floats = split(90).images / 255
    np.testing.assert_allclose(dataset.mean, as_floats.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, as_floats.std(axis=(0, 2, 3)), rtol=1e-10)


# The means of constant images of 3 and of 5 are rounded, so that the computed deviation is not quite zero.
@settings(max_examples=40, deadline=None)
@given(
    value=st.integers(0, 255) | st.sampled_from([3, 5]), count=st.integers(1, 13), channel=st.integers(0, 2)
)
def test_a_constant_channel_is_refused(value: int, count: int, channel: int) -> None:
    images = pictures(count)
    images[:, channel] = value
    with pytest.raises(UserError, match="constant in a channel"):
        channel_statistics(images)


@settings(max_examples=30, deadline=None)
@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 0.5)] * 3),
    seed=st.integers(0, 9),
)
def test_normalised_against_the_plain_formula(
    mean: tuple[float, ...], std: tuple[float, ...], seed: int
) -> None:
    images = pictures(2, seed)
    result = normalised(images, mean, std)
    expected = np.empty(images.shape)
    for channel in range(3):
        expected[:, channel] = (images[:, channel] / 255 - mean[channel]) / std[channel]
    assert result.dtype == np.float32
    assert result.shape == images.shape
    # The values reach 1/std, and float32 keeps 7 digits of the larger of product and shift.
    np.testing.assert_allclose(result, expected, rtol=0, atol=3e-7 / min(std))


def test_normalised_training_images_have_mean_0_and_std_1(dataset: Dataset) -> None:
    result = dataset.normalised(split(90).images)
    np.testing.assert_allclose(result.mean(axis=(0, 2, 3), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axis=(0, 2, 3), dtype=np.float64), 1, atol=1e-5)


def test_normalised_takes_any_number_of_images_and_channels() -> None:
    assert normalised(np.zeros((0, 3, 32, 32), np.uint8), (0.5,) * 3, (0.5,) * 3).shape == (0, 3, 32, 32)
    grey = normalised(np.full((1, 1, 4, 4), 255, np.uint8), (0.5,), (0.25,))
    np.testing.assert_allclose(grey, 2, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("which", ["training", "test"])
def test_a_label_without_a_class_is_refused(which: str, label: int) -> None:
    parts = {"training": split(30), "test": split(30, seed=1)}
    parts[which].labels[5] = label
    with pytest.raises(UserError, match=re.escape(f"{which} labels outside 0..2")):
        dataset_from_splits("mine", CLASSES, parts["training"], parts["test"])


@pytest.mark.parametrize("which", ["training", "test"])
def test_an_empty_split_is_refused(which: str) -> None:
    parts = {"training": split(30), "test": split(30, seed=1), which: split(0)}
    with pytest.raises(UserError, match=f"mine has no {which} images"):
        dataset_from_splits("mine", CLASSES, parts["training"], parts["test"])


def test_too_few_images_to_hold_any_out() -> None:
    with pytest.raises(UserError, match="no training image is left to calibrate on"):
        dataset_from_splits("mine", CLASSES, split(3), split(30, seed=1))


def test_the_hash_is_of_images_labels_and_order(dataset: Dataset) -> None:
    def made(training: Split, test: Split) -> str:
        return dataset_from_splits("mine", CLASSES, training, test).sha256

    test = split(30, seed=1)
    assert made(split(90), test) == dataset.sha256
    other_pixel, other_label, other_test = split(90), split(90), split(30, seed=1)
    other_pixel.images[0, 0, 0, 0] ^= 1
    other_label.labels[0] = 2
    other_test.images[0, 0, 0, 0] ^= 1
    reordered = split(90).subset(np.arange(90)[::-1])
    hashes = [
        made(other_pixel, test),
        made(other_label, test),
        made(split(90), other_test),
        made(reordered, test),
    ]
    assert len({*hashes, dataset.sha256}) == 5


def test_subset_keeps_the_given_order() -> None:
    whole = split(6)
    part = whole.subset(np.array([4, 0]))
    assert np.array_equal(part.images, whole.images[[4, 0]])
    assert part.labels.tolist() == [1, 0]
