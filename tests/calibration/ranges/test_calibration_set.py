import io

import numpy as np
import pytest
from conftest import CIFAR10_DIR, needs_cifar10
from PIL import Image

from calibration.ranges.calibration_set import (
    LEAST_CORRELATION,
    check_calibration_set,
    neighbour_correlation,
)
from data.dataset import LEAST_PICTURES, Split
from data.images import image_from_bytes
from data.load import dataset_from_name
from errors import UserError

SHAPE = (40, 3, 32, 32)


def split_of(images):
    return Split(images, np.zeros(len(images), np.int64))


def noise(kind, pictures):
    generator = np.random.default_rng(0)
    if kind == "uniform":
        return generator.integers(0, 256, SHAPE, np.uint8)
    if kind == "grey":
        return np.repeat(generator.integers(0, 256, (40, 1, 32, 32), np.uint8), 3, axis=1)
    if kind == "gaussian of many colours":
        colour = generator.uniform(50, 200, (40, 3, 1, 1))
        return np.clip(generator.normal(colour, 10, SHAPE), 0, 255).astype(np.uint8)
    if kind == "shuffled pixels":
        return generator.permuted(pictures[:40].reshape(40, 3, -1), axis=2).reshape(SHAPE)
    if kind == "with some pictures":
        return np.concatenate([generator.integers(0, 256, SHAPE, np.uint8), pictures[:30]])
    assert kind == "with flat ones"
    return np.concatenate([generator.integers(0, 256, SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)])


def test_digits_are_far_from_noise(digits):
    check_calibration_set(digits.calibration, digits.test)
    assert neighbour_correlation(digits.calibration.images).min() > 0.9


@needs_cifar10
def test_photographs_are_far_from_noise():
    photographs = dataset_from_name("cifar10", CIFAR10_DIR)
    check_calibration_set(photographs.calibration, photographs.test)
    correlation = neighbour_correlation(photographs.calibration.images)
    assert np.median(correlation) > 0.85
    assert (correlation > LEAST_CORRELATION).all()


@pytest.mark.parametrize(
    "kind",
    [
        "uniform",
        "grey",
        "gaussian of many colours",
        "shuffled pixels",
        "with some pictures",
        "with flat ones",
    ],
)
def test_noise_is_refused(digits, kind):
    images = noise(kind, digits.train.images)
    assert abs(np.median(neighbour_correlation(images[:40]))) < 0.05
    with pytest.raises(UserError, match="noise: neighbouring pixels correlate by"):
        check_calibration_set(split_of(images), digits.test)


def test_noise_scaled_to_the_size_of_the_network_is_refused(digits):
    generator = np.random.default_rng(0)

    def scaled():
        content = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (48, 40, 3), np.uint8)).save(content, "png")
        return image_from_bytes(content.getvalue(), "noise")

    images = np.stack([scaled() for _ in range(10)])
    with pytest.raises(UserError, match="noise"):
        check_calibration_set(split_of(images), digits.test)


@pytest.mark.parametrize("different", [0, 1, 5, LEAST_PICTURES - 1])
@pytest.mark.parametrize("copies", [1, 20])
def test_fewer_than_the_least_different_pictures_are_refused(digits, different, copies):
    pictures = digits.train.images[:different].repeat(copies, axis=0)
    problem = f"has {different} different pictures and needs at least {LEAST_PICTURES}"
    with pytest.raises(UserError, match=problem) as caught:
        check_calibration_set(split_of(pictures), digits.test)
    assert caught.value.fix == "add training images: a tenth of them becomes the calibration split"


def test_the_least_is_enough_and_copies_do_no_harm(digits):
    pictures = digits.train.images[:LEAST_PICTURES]
    check_calibration_set(split_of(pictures), digits.test)
    check_calibration_set(split_of(pictures.repeat(2, axis=0)), digits.test)


def test_flat_images_are_refused(digits):
    colours = np.random.default_rng(0).integers(0, 256, (12, 3, 1, 1), np.uint8)
    flat = np.broadcast_to(colours, (12, 3, 32, 32))
    with pytest.raises(UserError, match="one flat colour"):
        check_calibration_set(split_of(flat), digits.test)
    some = np.concatenate([flat, digits.train.images[:2]])
    check_calibration_set(split_of(some), digits.test)


def test_test_images_are_refused(digits):
    leaky = np.concatenate([digits.calibration.images, digits.test.images[3:5]])
    with pytest.raises(UserError, match="2 calibration images are in the test split"):
        check_calibration_set(split_of(leaky), digits.test)


def test_correlation_by_hand():
    ramp = np.broadcast_to(np.arange(0, 256, 8), (32, 32))
    board = np.indices((32, 32)).sum(0) % 2 * 255
    images = np.stack([ramp, ramp.T, board, np.full((32, 32), 7)]).astype(np.uint8)[:, None]
    up, across, opposite = neighbour_correlation(images)
    assert up == pytest.approx(across)
    assert 0.98 < up < 1
    assert opposite == pytest.approx(-1)


def test_correlation_is_numpys_of_all_pairs_of_neighbours(digits):
    images = digits.train.images[:5]
    for image, correlation in zip(images[:, 0].astype(float), neighbour_correlation(images), strict=True):
        first = np.append(image[:, 1:].ravel(), image[1:].ravel())
        second = np.append(image[:, :-1].ravel(), image[:-1].ravel())
        # numpy takes deviations from the means of `first` and `second`, each of which leaves out one edge.
        assert correlation == pytest.approx(np.corrcoef(first, second)[0, 1], abs=5e-3)
