"""Trainings of a few epochs on a hundred digits, each in a fraction of a second, and how to stop them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from artifacts.names import CHECKPOINT, TRAINING_LOG
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset, Split
from models.checkpoint import CheckpointCard
from models.config import resnet_config
from training.checkpoint_from_dataset import checkpoint_from_dataset
from training.recipes import Recipe, recipe_from_name
from training.state import STATE_LOG

CONFIG = resnet_config("preact", 8)
RECIPE = replace(recipe_from_name("digits", 20), epochs=3)
# The fixture `few` has 110 training images: three full batches of 32 and a rest of 14.
BATCHES = 4
TIMES = ("seconds", "images_per_s")


def parted(split: Split, count: int) -> Split:
    """Return the first images of a split."""
    return Split(split.images[:count], split.labels[:count])


def trained(
    path: Path, dataset: Dataset, recipe: Recipe = RECIPE, **options: Any
) -> tuple[RunDirectory, CheckpointCard]:
    run = RunDirectory(path)
    return run, checkpoint_from_dataset(run, options.pop("config", CONFIG), dataset, recipe, **options)


def weights(run: RunDirectory) -> bytes:
    return run.verified(CHECKPOINT).read_bytes()


def log(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the log of a finished training, or the log so far of an interrupted one."""
    name = TRAINING_LOG if TRAINING_LOG in run else STATE_LOG
    return run.json_lines(name)


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


class Counting:
    """A progress that counts the batches of each epoch and can interrupt the training.

    Args:
        epochs: how many epochs to let finish; the training is never interrupted if this is None.
        batches: how many batches of the next epoch to let finish.
    """

    def __init__(self, epochs: int | None = None, batches: int = 0) -> None:
        self.stop = (epochs, batches)
        self.seen: list[int] = []
        self.descriptions: list[str] = []

    def __call__(
        self, items: Iterable[Any], description: Callable[[], str], total: int | None = None
    ) -> Iterator[Any]:
        self.seen.append(0)
        for item in items:
            if (len(self.seen) - 1, self.seen[-1]) == self.stop:
                raise KeyboardInterrupt
            self.seen[-1] += 1
            yield item
            self.descriptions.append(description())
        assert self.seen[-1] == total
