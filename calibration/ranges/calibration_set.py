"""Check the images for calibration: they must be pictures, and none may belong to the test split."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from data.dataset import LEAST_PICTURES, Dataset, Images, Split, check_disjoint
from errors import UserError
from graphs.card import Batch

# The least correlation of neighbouring pixels, as the median over the images. Pictures measured 0.97 (digits)
# and 0.89 (CIFAR-10, where every single test image had at least 0.46 and the median of every five in a row at
# least 0.77). Uniform, Gaussian and shuffled pixels measured 0.00, and larger noise that was scaled down to
# 32 x 32 measured 0.24 to 0.30.
LEAST_CORRELATION = 0.5
# The most images that choices of quantization are scored on.
HELD_OUT_IMAGES = 256


def fingerprint(split: Split) -> str:
    """Return the sha256 of all images of a split, in order."""
    return hashlib.sha256(split.images.tobytes()).hexdigest()


def calibration_images(dataset: Dataset) -> Batch:
    """Check the calibration split and return its normalised images, float32 [N, C, H, W].

    Raises:
        UserError: the split is not fit to calibrate on; see `check_calibration_set`.
    """
    check_calibration_set(dataset.calibration, dataset.test)
    return dataset.normalised(dataset.calibration.images)


def held_out_images(dataset: Dataset) -> Images:
    """Return the training images that choices of quantization are scored on.

    Images of the calibration split are left out, because the ranges fit these images best, and so are images
    of the test split, because nothing may be chosen on them. The images with the smallest sha256 are taken,
    so the choice depends on the pictures alone. Labels are not used.

    Returns:
        uint8 [N, C, H, W], with N at most `HELD_OUT_IMAGES`.

    Raises:
        UserError: every training image is in the calibration or the test split.
    """
    taken = {*dataset.calibration.hashes, *dataset.test.hashes}
    indices = {digest: index for index, digest in enumerate(dataset.train.hashes) if digest not in taken}
    if not indices:
        raise UserError(
            "every training image is in the calibration split or the test split", "add training images"
        )
    return dataset.train.images[[index for _, index in sorted(indices.items())[:HELD_OUT_IMAGES]]]


def check_calibration_set(calibration: Split, test: Split) -> None:
    """Refuse images whose ranges would not fit the images that the network will meet.

    Raises:
        UserError: the calibration split has fewer than `LEAST_PICTURES` different pictures, all its images
            are of one flat colour, its images are noise, or it shares an image with the test split.
    """
    images = calibration.images
    if (different := len(set(calibration.hashes))) < LEAST_PICTURES:
        raise UserError(
            f"the calibration split has {different} different pictures and needs at least {LEAST_PICTURES}",
            "add training images: a tenth of them becomes the calibration split",
        )
    correlation = neighbour_correlation(images)
    if not len(correlation):
        raise UserError("every calibration image is one flat colour", "calibrate on real pictures")
    if np.median(correlation) < LEAST_CORRELATION:
        raise UserError(
            "the calibration images are noise: neighbouring pixels correlate by "
            f"{np.median(correlation):.2f}, and in pictures by at least {LEAST_CORRELATION}",
            "calibrate on real pictures",
        )
    check_disjoint(calibration, test)


def neighbour_correlation(images: Images) -> NDArray[np.float64]:
    """Return the correlation of neighbouring pixels in each image that is not of one flat colour.

    Each pixel is paired with the pixel to its right and the pixel below it. Deviations are taken from the
    mean of each channel of each image, so that neither brightness nor colour counts.

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
