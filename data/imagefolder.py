"""`imagefolder`: the user's pictures, in one folder for each class.

The folder holds either `DIR/train/<class>/*` and `DIR/test/<class>/*`, or `DIR/<class>/*`. In the second case
the fifth of each class with the smallest sha256 becomes the test split, so that the split depends on nothing
but the pictures.
"""

from pathlib import Path

import numpy as np

from data.dataset import Dataset, Split, dataset_from_splits
from data.images import images_from_files
from errors import UserError
from progress import Progress, silent

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".webp", ".tif", ".tiff"}
_TEST_SHARE = 0.2


def imagefolder(data_dir: Path | None, progress: Progress = silent) -> Dataset:
    """Return the pictures of a folder, those of another size than 32x32 cut to a square and resized.

    Raises:
        UserError: there is no folder, it has fewer than two classes, a class has too few pictures, train and
            test have different classes, or a file is no picture; the message names the file.
    """
    if data_dir is None:
        raise UserError("--dataset imagefolder needs a folder", "name the folder with --data-dir DIR")
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is not a folder", "give --data-dir a folder with one folder a class")
    train_dir, test_dir = data_dir / "train", data_dir / "test"
    if train_dir.is_dir() != test_dir.is_dir():
        present, absent = sorted((train_dir, test_dir), key=lambda path: not path.is_dir())
        raise UserError(f"{present} is there and {absent} is not", f"add {absent}")
    if train_dir.is_dir():
        classes, training = _split_from_folder(train_dir, progress)
        test_classes, test = _split_from_folder(test_dir, progress)
        if classes != test_classes:
            lonely = sorted(set(classes) ^ set(test_classes))[0]
            raise UserError(
                f"class '{lonely}' is not in both {train_dir} and {test_dir}",
                "give both the same folders",
            )
        return dataset_from_splits("imagefolder", classes, training, test)
    classes, everything = _split_from_folder(data_dir, progress)
    test_indices = _test_indices(everything, classes)
    is_test = np.zeros(len(everything), dtype=bool)
    is_test[test_indices] = True
    return dataset_from_splits(
        "imagefolder",
        classes,
        training=everything.subset(np.flatnonzero(~is_test)),
        test=everything.subset(test_indices),
    )


def _split_from_folder(folder: Path, progress: Progress) -> tuple[list[str], Split]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise UserError(
            f"{folder} holds {len(classes)} class folders", "give one folder a class and at least two classes"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        pictures = [path for path in sorted((folder / name).rglob("*")) if path.suffix.lower() in SUFFIXES]
        if not pictures:
            raise UserError(f"{folder / name} holds no pictures", "remove the folder or fill it")
        paths += pictures
        labels += [label] * len(pictures)
    images = images_from_files(paths, f"decoding {folder.name}", progress)
    return classes, Split(images, np.array(labels, dtype=np.int64))


def _test_indices(split: Split, classes: list[str]) -> np.ndarray:
    chosen: list[int] = []
    for label in np.unique(split.labels):
        if np.count_nonzero(split.labels == label) < 2:
            raise UserError(
                f"class '{classes[label]}' has one picture, which cannot be in both training and test",
                "give each class at least two",
            )
        by_hash = sorted(np.flatnonzero(split.labels == label).tolist(), key=split.hashes.__getitem__)
        chosen += by_hash[: max(1, round(len(by_hash) * _TEST_SHARE))]
    return np.array(sorted(chosen), dtype=np.intp)
