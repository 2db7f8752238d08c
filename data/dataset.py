"""What a data set is here, and how its calibration split is cut.

Layout everywhere: uint8 [N, 3, 32, 32], RGB. Networks take float32 (x / 255 - mean) / std with
per-channel mean and std of the training images; `Dataset.normalised` is the only place that does it.

The calibration split is cut from the training images: per class the images with the smallest
sha256, so it depends on the pictures alone and not on their order. It is held out from training, so
that ranges and choices made on it do not lean on memorised pictures, and it holds no picture of the
test split, which is checked.
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
# Enough for stable ranges, and at most a tenth of a small training set.
CALIBRATION_IMAGES = 1000
CALIBRATION_SHARE = 0.1
# Measured on both variants at depth 8, trained on digits, INT8 logits of held-out images against float32
# ones, the worst of 8 draws: 1 picture 9 dB and 94.9 % of the answers, 5 pictures 20 dB and 98.8 %, 10
# pictures 28 dB and 99.2 %, all 140 36 dB and 99.6 %.
LEAST_PICTURES = 10

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N], neither of them changed once they are here."""

    images: Images
    labels: Labels

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """sha256 of each image's pixels, computed when first asked for."""
        return tuple(image_hashes(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: NDArray[np.intp]) -> "Split":
        """The images at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits with the statistics of the training images.

    Attributes:
        mean: per channel, of pixels in 0..1, over all training images (calibration included).
        std: likewise.
        sha256: of all images and labels of all splits, in order.
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
        """uint8 [N, 3, 32, 32] -> float32 of the same shape, as the networks take it."""
        return normalised(images, self.mean, self.std)


def normalised(images: Images, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """(x / 255 - mean) / std per channel: uint8 [N, C, H, W] -> float32 of the same shape."""
    scale = (1 / (255 * np.asarray(std))).astype(np.float32)[:, None, None]
    shift = (np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]
    return images.astype(np.float32) * scale - shift


def dataset_from_splits(name: str, classes: Sequence[str], training: Split, test: Split) -> Dataset:
    """Cut the calibration split, compute the statistics and check what must hold.

    Raises:
        UserError: a split is empty, a label has no class, or too few distinct training images are
            left to calibrate on.
    """
    for what, split in (("training", training), ("test", test)):
        if not len(split):
            raise UserError(f"{name} has no {what} images", "give a data set with both splits")
        if split.labels.min() < 0 or split.labels.max() >= len(classes):
            raise UserError(
                f"{name} has {what} labels outside 0..{len(classes) - 1}",
                "check that the files belong to this data set",
            )
    calibration = calibration_indices(training, test)
    chosen = {training.hashes[index] for index in calibration}
    # By picture, not by index: a second copy of a calibration image is held out with it.
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
    """Indices of the calibration images in the training split, balanced over the classes.

    Per class the images with the smallest sha256; images that are in the test split too, and second
    copies, are passed over.
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
    """Raise UserError if an image stands in both splits."""
    shared = set(calibration.hashes) & set(test.hashes)
    if shared:
        raise UserError(
            f"{len(shared)} calibration images are in the test split too",
            "calibrate on images that the accuracy is not measured on",
        )


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in 0..1, in exact integer sums.

    Raises:
        UserError: a channel is constant, so nothing can be normalised by its deviation.
    """
    counts = np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])])
    # Not `std == 0`: rounding in the mean leaves 1e-18 of some constants.
    if ((counts > 0).sum(1) < 2).any():
        raise UserError("the training images are constant in a channel", "check that the images are pictures")
    values = np.arange(256) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1))
    return tuple(mean.tolist()), tuple(std.tolist())


def image_hashes(images: Images) -> list[bytes]:
    """sha256 of each image's pixels."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _content_sha256(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.tobytes())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()
