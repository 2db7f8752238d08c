"""The data sets under the names that `--dataset` takes."""

from pathlib import Path

from data.cifar import SOURCES, cifar
from data.dataset import Dataset
from data.digits import digits
from data.imagefolder import imagefolder
from errors import UserError
from progress import Progress, silent
from vocabulary import DatasetName

DATASETS = tuple(DatasetName)


def dataset_from_name(name: str, data_dir: Path | None = None, progress: Progress = silent) -> Dataset:
    """Return the data set of this name.

    Args:
        name: one of `DATASETS`.
        data_dir: the folder that holds the files. imagefolder needs one, cifar10 and cifar100 fetch theirs
            from the Hugging Face hub if `data_dir` is None, and digits ignores it.

    Raises:
        UserError: the name is unknown, or the data cannot be read; see `data.cifar` and `data.imagefolder`.
    """
    if name == DatasetName.digits:
        return digits()
    if name in SOURCES:
        return cifar(name, data_dir, progress)
    if name == DatasetName.imagefolder:
        return imagefolder(data_dir, progress)
    raise UserError(f"unknown data set '{name}'", f"use {' or '.join(DATASETS)}")
