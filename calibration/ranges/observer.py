"""Observe one tensor over all batches: a histogram of the values and the mean of each channel."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histogram import Histogram
from graphs.card import Batch


class Observer:
    """A histogram and channel sums over batches [N, C, H, W], which may come in any order.

    The memory does not grow with the number of batches.
    """

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._sums: NDArray[np.float64] = np.zeros(0)
        self._count = 0

    def update(self, values: Batch) -> Self:
        """Add a batch.

        Raises:
            ValueError: a value is not finite.
        """
        self.histogram.update(values)
        sums = values.sum((0, 2, 3), dtype=np.float64)
        self._sums = self._sums + sums if self._count else sums
        self._count += values.size // len(sums)
        return self

    def merge(self, other: Self) -> Self:
        """Add the batches that another observer of the same tensor has counted."""
        self.histogram.merge(other.histogram)
        if other._count:
            self._sums = self._sums + other._sums if self._count else other._sums
            self._count += other._count
        return self

    def channel_means(self) -> NDArray[np.float32]:
        """Return the mean of each channel [C]; the order of the batches changes only the rounding."""
        return (self._sums / self._count).astype(np.float32)
