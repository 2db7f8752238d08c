"""The training split on the device, handed out in shuffled and augmented batches.

Order and augmentation of a whole epoch are drawn before its first batch, so that nothing is decoded,
copied from the host or waited for inside it. Several processes draw the same order and the same views
and each takes its part of every batch, so the images a step sees do not depend on their number.
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
    """One process's part of a step.

    Attributes:
        images: float32 [N, C, H, W], normalised, channels_last.
        labels: int64 [N].
        share: N over the mean part of the processes; weighs this part's loss in the step's.
    """

    images: Tensor
    labels: Tensor
    share: float


class Feed:
    """Batches of one data set for one process.

    Args:
        device: where the images lie, as one uint8 tensor.
        processes: which part of every batch is this process's.

    Raises:
        UserError: fewer than two images of a batch for each of several processes; BN has no variance
            over one.
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
        """Batches an epoch; a rest too small for BN is left out, unless there is nothing else."""
        full, rest = divmod(self._count, self._recipe.batch_size)
        return full + (rest >= self._smallest or full == 0)

    @property
    def handed_out(self) -> int:
        """Images of an epoch, over all processes."""
        return min(len(self) * self._recipe.batch_size, self._count)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """One pass over the images, in the order and the views `generator` draws."""
        recipe, processes = self._recipe, self._processes
        order = torch.randperm(self._count, generator=generator).to(self._images.device)
        views = random_views(self._count, recipe.crop_padding, recipe.flip, generator).to(order.device)
        for start in range(0, len(self) * recipe.batch_size, recipe.batch_size):
            end = min(start + recipe.batch_size, self._count)
            own = slice(start + processes.rank, end, processes.count)
            chosen = order[own]
            cropped = augmented(self._images[chosen], recipe.crop_padding, self._fill, views.part(own))
            yield Batch(
                images=(cropped.float() / 255 - self._mean) / self._std,
                labels=self._labels[chosen],
                share=len(chosen) * processes.count / (end - start),
            )

    @property
    def _smallest(self) -> int:
        return 2 * self._processes.count
