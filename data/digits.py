"""`digits`: the 1,797 handwritten digits that scikit-learn contains, so that nothing is downloaded.

The pictures (the test part of the UCI ML hand-written digits) have 8x8 pixels of 17 grey levels and are
enlarged to 3x32x32. Every fifth picture is a test picture, because different writers wrote
different parts of the set, and the test split should have digits of all of them.
"""

import numpy as np

from data.dataset import CHANNELS, IMAGE_SIZE, Dataset, Split, dataset_from_splits

_LEVELS = 16
_TEST_EVERY = 5


def digits() -> Dataset:
    """Return the digits in their three splits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / _LEVELS)).astype(np.uint8)
    images = np.empty((len(grey), CHANNELS, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for index, picture in enumerate(grey):
        large = Image.fromarray(picture).resize((IMAGE_SIZE,) * 2, Image.Resampling.BILINEAR)
        images[index] = np.asarray(large)
    everything = Split(images, bunch.target.astype(np.int64))
    is_test = np.arange(len(images)) % _TEST_EVERY == 0
    return dataset_from_splits(
        "digits",
        [str(name) for name in bunch.target_names],
        training=everything.subset(np.flatnonzero(~is_test)),
        test=everything.subset(np.flatnonzero(is_test)),
    )
