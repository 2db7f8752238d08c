"""What a set of images must be to calibrate on: pictures, and none that the accuracy is measured on."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from data.dataset import LEAST_PICTURES, Dataset, Images, Split, check_disjoint
from errors import UserError
from graphs.card import Batch

# Of neighbouring pixels, median over the images. Measured: digits 0.97, CIFAR-10 0.89 (any single test image
# at least 0.46, the median of any five in a row at least 0.77); uniform, Gaussian and shuffled pixels 0.00,
# noise made larger and scaled down to 32 x 32 0.24 to 0.30.
LEAST_CORRELATION = 0.5
HELD_OUT_IMAGES = 256


def fingerprint(split: Split) -> str:
    """sha256 of the images of a split, in order."""
    return hashlib.sha256(split.images.tobytes()).hexdigest()


def calibration_images(dataset: Dataset) -> Batch:
    """The calibration split, checked and normalised: float32 [N, C, H, W].

    Raises:
        UserError: see `check_calibration_set`.
    """
    check_calibration_set(dataset.calibration, dataset.test)
    return dataset.normalised(dataset.calibration.images)


def held_out_images(dataset: Dataset) -> Images:
    """Training images that choices of quantization are scored on: uint8 [N, C, H, W], N <= `HELD_OUT_IMAGES`.

    None is in the calibration split, whose ranges would fit its own images best, or in the test split,
    which chooses nothing. Those with the smallest sha256 are taken, so the choice depends on the pictures
    alone; labels are not looked at.

    Raises:
        UserError: no training image is left.
    """
    seen = {*dataset.calibration.hashes, *dataset.test.hashes}
    own = {digest: index for index, digest in enumerate(dataset.train.hashes) if digest not in seen}
    order = sorted(own.items())
    if not order:
        raise UserError(
            "no training image is outside the calibration and the test split", "add training images"
        )
    return dataset.train.images[[index for _, index in order[:HELD_OUT_IMAGES]]]


def check_calibration_set(calibration: Split, test: Split) -> None:
    """Refuse images whose ranges would not be those of the images to come.

    Raises:
        UserError: the calibration split has too few different pictures, is flat or noise, or shares an
            image with the test split.
    """
    images = calibration.images
    if (different := len(set(calibration.hashes))) < LEAST_PICTURES:
        raise UserError(
            f"the calibration split has {different} different pictures, and {LEAST_PICTURES} are the least",
            "add training images: a tenth of them is set aside for it",
        )
    correlation = neighbour_correlation(images)
    if not len(correlation):
        raise UserError("every calibration image is one flat colour", "calibrate on real pictures")
    if np.median(correlation) < LEAST_CORRELATION:
        raise UserError(
            "the calibration images are noise: neighbouring pixels correlate by "
            f"{np.median(correlation):.2f}, in pictures by {LEAST_CORRELATION} or more",
            "calibrate on real pictures",
        )
    check_disjoint(calibration, test)


def neighbour_correlation(images: Images) -> NDArray[np.float64]:
    """Correlation of each pixel with those right of it and below it, of each image that is not flat.

    Deviations are from the mean of each channel of each image, so neither brightness nor colour counts.

    Args:
        images: uint8 [N, C, H, W].

    Returns:
        at most N values in -1..1.
    """
    varied = images[(images != images[:, :, :1, :1]).any((1, 2, 3))].astype(np.float64)
    pixels = varied - varied.mean((2, 3), keepdims=True)
    pairs = [(pixels[..., 1:], pixels[..., :-1]), (pixels[..., 1:, :], pixels[..., :-1, :])]
    products = sum((a * b).sum((1, 2, 3)) for a, b in pairs)
    squares = sum((a * a + b * b).sum((1, 2, 3)) for a, b in pairs) / 2
    return products / squares
