import numpy as np
from sklearn.datasets import load_digits

from data.dataset import Dataset, image_hashes
from data.digits import digits as load


def test_sizes_of_the_splits(digits: Dataset) -> None:
    assert digits.name == "digits"
    assert (len(digits.train), len(digits.calibration), len(digits.test)) == (1297, 140, 360)
    assert digits.classes == tuple("0123456789")


def test_every_fifth_picture_is_a_test_picture(digits: Dataset) -> None:
    assert digits.test.labels.tolist() == load_digits().target[::5].tolist()


def test_every_class_is_in_every_split(digits: Dataset) -> None:
    for split in (digits.train, digits.test):
        assert np.bincount(split.labels, minlength=10).min() >= 25
    assert np.bincount(digits.calibration.labels).tolist() == [14] * 10


def test_no_picture_stands_in_two_splits(digits: Dataset) -> None:
    hashes = [set(image_hashes(s.images)) for s in (digits.train, digits.calibration, digits.test)]
    assert not hashes[0] & hashes[1]
    assert not hashes[0] & hashes[2]
    assert not hashes[1] & hashes[2]


def test_pictures_are_the_digits_enlarged_in_grey(digits: Dataset) -> None:
    images = digits.test.images
    assert images.dtype == np.uint8
    assert images.shape == (360, 3, 32, 32)
    assert np.array_equal(images[:, 0], images[:, 1])
    assert np.array_equal(images[:, 0], images[:, 2])
    # The mean of each 4x4 tile follows the pixel that was enlarged to the tile, scaled from 0..16 to 0..255.
    tiles = images[:, 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    original = load_digits().images[::5] * 255 / 16
    assert np.corrcoef(tiles.ravel(), original.ravel())[0, 1] > 0.97
    assert images.max() > 240
    assert images.min() == 0


def test_the_set_is_the_same_each_time(digits: Dataset) -> None:
    again = load()
    assert again.sha256 == digits.sha256
    assert np.array_equal(again.calibration.images, digits.calibration.images)
    assert (again.mean, again.std) == (digits.mean, digits.std)
