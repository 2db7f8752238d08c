"""The training split on the device, and the shuffled and augmented batches that are taken from it.

The order and the augmentation of a whole epoch are drawn before the first batch, so that no batch is decoded,
copied from the host or waited for. Several processes draw the same order and the same views, and each process
takes its part of every batch. Therefore the images of a step do not depend on the number of processes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from data.dataset import Dataset
from errors import UserError
from training.augment import augmented, random_views
from training.processes import Processes
from training.recipes import Recipe


class Batch(NamedTuple):
    """The part of one step's images that one process trains on.

    Attributes:
        images: float32 [N, C, H, W], normalised, channels_last.
        labels: int64 [N].
        share: N divided by the mean of N over the processes. The loss of this part is multiplied by the
            share, so that the mean over the processes is the mean over the images of the step.
    """

    images: Tensor
    labels: Tensor
    share: float


class Feed:
    """The batches of one data set for one process.

    Args:
        device: the device that holds all images as one uint8 tensor.
        processes: decides which part of every batch this process takes.

    Raises:
        UserError: there are several processes and the batches have fewer than two images for each of them, so
            that BN has no variance.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, device: torch.device, processes: Processes) -> None:
        self._count = len(dataset.train)
        self._recipe = recipe
        self._processes = processes
        largest = min(recipe.batch_size, self._count)
        if processes.count > 1 and largest < self._smallest:
            raise UserError(
                f"batches of {largest} cannot be shared by {processes.count} processes",
                "start fewer processes, or choose a recipe with larger batches",
            )
        self._images = torch.from_numpy(dataset.train.images).to(device)
        self._labels = torch.from_numpy(dataset.train.labels).to(device)
        mean = torch.tensor(dataset.mean, device=device)
        std = torch.tensor(dataset.std, device=device)
        self._fill = (mean * 255).round().to(torch.uint8)
        self._mean, self._std = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def __len__(self) -> int:
        """The number of batches in an epoch.

        A last batch that is too small for BN is left out, unless it is the only batch.
        """
        full, rest = divmod(self._count, self._recipe.batch_size)
        return full + (rest >= self._smallest or full == 0)

    @property
    def handed_out(self) -> int:
        """The number of images in an epoch, over all processes together."""
        return min(len(self) * self._recipe.batch_size, self._count)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Return the batches of one epoch, in the order and with the views that `generator` draws."""
        recipe, processes = self._recipe, self._processes
        order = torch.randperm(self._count, generator=generator).to(self._images.device)
        views = random_views(self._count, recipe.crop_padding, recipe.flip, generator).to(order.device)
        for start in range(0, len(self) * recipe.batch_size, recipe.batch_size):
            end = min(start + recipe.batch_size, self._count)
            part = slice(start + processes.rank, end, processes.count)
            chosen = order[part]
            cropped = augmented(self._images[chosen], recipe.crop_padding, self._fill, views.part(part))
            yield Batch(
                images=(cropped.float() / 255 - self._mean) / self._std,
                labels=self._labels[chosen],
                share=len(chosen) * processes.count / (end - start),
            )

    @property
    def _smallest(self) -> int:
        return 2 * self._processes.count
