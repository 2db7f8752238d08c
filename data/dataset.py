"""A data set in three splits, and how the calibration split is taken from the training images.

All images are RGB in uint8 [N, 3, 32, 32]. Networks take float32 (x / 255 - mean) / std, with the mean and
standard deviation of each channel over the training images; only `normalised` computes that.

The calibration split consists of the images of each class with the smallest sha256, so that it depends on the
pictures and not on their order. The images are held out from training, because ranges and choices made on
memorised pictures would not fit new ones. No image of the calibration split may be in the test split;
`check_disjoint` raises an error if one is.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from errors import UserError

IMAGE_SIZE = 32
CHANNELS = 3
# 1,000 images are enough for stable ranges. A small training set gives up at most a tenth of its images.
CALIBRATION_IMAGES = 1000
CALIBRATION_SHARE = 0.1
# Fewer calibration images give poor ranges. This was measured on both variants at depth 8, trained on digits,
# by comparing the INT8 logits of held-out images with the float32 logits. The worst of 8 draws had, with 1
# picture, 9 dB and 94.9 % equal answers; with 5 pictures, 20 dB and 98.8 %; with 10 pictures, 28 dB and 99.2
# %; with all 140 pictures, 36 dB and 99.6 %.
LEAST_PICTURES = 10

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N]; nobody changes the arrays of a split."""

    images: Images
    labels: Labels

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """The sha256 of each image's pixels, computed when first asked for."""
        return tuple(image_hashes(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: NDArray[np.intp]) -> "Split":
        """Return the images at `indices` and their labels, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Three splits with the statistics of the training images; no calibration image is in another split.

    Attributes:
        mean: one value a channel, of pixels in 0..1, over the training and the calibration images.
        std: the standard deviations, likewise.
        sha256: the hash of all images and labels of all splits, in order.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    calibration: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str

    def normalised(self, images: Images) -> NDArray[np.float32]:
        """Return uint8 images [N, 3, 32, 32] as the float32 images that the networks take."""
        return normalised(images, self.mean, self.std)


def normalised(images: Images, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return (x / 255 - mean) / std of uint8 images [N, C, H, W], as float32 of the same shape."""
    scale, shift = scale_and_shift(mean, std)
    return images.astype(np.float32) * scale[:, None, None] - shift[:, None, None]


def scale_and_shift(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what pixels are multiplied with and what is then subtracted, for each channel: float32 [C].

    Programs in other languages that multiply and subtract these numbers in float32 get the bits of
    `normalised`.
    """
    scale = (1 / (255 * np.asarray(std))).astype(np.float32)
    return scale, (np.asarray(mean) / np.asarray(std)).astype(np.float32)


def dataset_from_splits(name: str, classes: Sequence[str], training: Split, test: Split) -> Dataset:
    """Make a data set of a training and a test split, by holding out calibration images from the former.

    Raises:
        UserError: a split is empty, a label has no class, no training image is left to calibrate on, or all
            training images are constant in a channel.
    """
    for what, split in (("training", training), ("test", test)):
        if not len(split):
            raise UserError(f"{name} has no {what} images", "give a data set with images of both kinds")
        if split.labels.min() < 0 or split.labels.max() >= len(classes):
            raise UserError(
                f"{name} has {what} labels outside 0..{len(classes) - 1}",
                "check that the files belong to this data set",
            )
    calibration = calibration_indices(training, test)
    chosen = {training.hashes[index] for index in calibration}
    # Images are compared by hash and not by index, so that a second copy of a calibration image is held out
    # too.
    held_out = np.array([digest in chosen for digest in training.hashes])
    mean, std = channel_statistics(training.images)
    dataset = Dataset(
        name=name,
        classes=tuple(classes),
        train=training.subset(np.flatnonzero(~held_out)),
        calibration=training.subset(calibration),
        test=test,
        mean=mean,
        std=std,
        sha256=_content_sha256(training, test),
    )
    check_disjoint(dataset.calibration, dataset.test)
    return dataset


def calibration_indices(training: Split, test: Split) -> NDArray[np.intp]:
    """Return the indices of the calibration images in the training split, as many of each class.

    The images of a class with the smallest sha256 are taken. Images that the test split has too, and second
    copies of an image, are passed over, and at least one image of a class is left to train on.

    Raises:
        UserError: every training image is in the test split too.
    """
    count = min(CALIBRATION_IMAGES, int(len(training) * CALIBRATION_SHARE))
    present = np.unique(training.labels)
    per_class = max(count // len(present), ceil(LEAST_PICTURES / len(present)))
    forbidden = set(test.hashes)
    hashes = training.hashes
    chosen: list[int] = []
    for label in present:
        candidates = np.flatnonzero(training.labels == label)
        taken = 0
        for index in sorted(candidates.tolist(), key=hashes.__getitem__):
            if taken == per_class or len(candidates) - taken <= 1:
                break
            if hashes[index] not in forbidden:
                forbidden.add(hashes[index])
                chosen.append(index)
                taken += 1
    if not chosen:
        raise UserError(
            "no training image is left to calibrate on: every one is in the test split too",
            "give training and test folders with different images",
        )
    return np.array(sorted(chosen), dtype=np.intp)


def check_disjoint(calibration: Split, test: Split) -> None:
    """Raise UserError if an image is in both splits."""
    shared = set(calibration.hashes) & set(test.hashes)
    if shared:
        raise UserError(
            f"{len(shared)} calibration images are in the test split too",
            "calibrate on images that the accuracy is not measured on",
        )


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of pixels in 0..1.

    Both come from counts of the 256 pixel values, so that no sum over millions of pixels is rounded.

    Raises:
        UserError: a channel is constant, so that no image can be divided by its standard deviation of 0.
    """
    counts = np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])])
    # The test is not `std == 0`, because rounding in the mean gives some constant channels a std of 1e-18.
    if ((counts > 0).sum(1) < 2).any():
        raise UserError("the training images are constant in a channel", "check that the images are pictures")
    values = np.arange(256) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1))
    return tuple(mean.tolist()), tuple(std.tolist())


def image_hashes(images: Images) -> list[bytes]:
    """Return the sha256 of each image's pixels."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _content_sha256(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.tobytes())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()
