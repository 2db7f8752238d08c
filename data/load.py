"""Data sets by name."""

from pathlib import Path

from data.cifar import SOURCES, cifar
from data.dataset import Dataset
from data.digits import digits
from data.imagefolder import imagefolder
from errors import UserError
from progress import Progress, silent

DATASETS = ("digits", *SOURCES, "imagefolder")


def dataset_from_name(name: str, data_dir: Path | None = None, progress: Progress = silent) -> Dataset:
    """Load a data set.

    Args:
        name: one of `DATASETS`.
        data_dir: where its files lie; needed by imagefolder, optional for cifar10 and cifar100.

    Raises:
        UserError: unknown name, or the data cannot be read; see the loaders.
    """
    if name == "digits":
        return digits()
    if name in SOURCES:
        return cifar(name, data_dir, progress)
    if name == "imagefolder":
        return imagefolder(data_dir, progress)
    raise UserError(f"unknown data set '{name}'", f"use {' or '.join(DATASETS)}")
