"""A streaming histogram whose counts do not depend on the order of the batches.

The histogram has 4,096 equal bins on each side of zero, up to a limit that is always a power of two above
the largest magnitude counted so far. When a larger magnitude comes, the limit doubles and adjacent bins
merge two by two. All bin widths are powers of two, so each value ends up in the bin that it would have had
if the final limit had been known from the start. Batches may therefore come in any order, the histograms
of parts can be merged, and the memory is constant. The largest magnitude lies in the upper half of the bins
of its side, so at least 2,048 bins cover the values.
"""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

BINS = 4096
_LEAST_EXPONENT = -100


class Histogram:
    """The counts of the values of one tensor, with the exact minimum and maximum.

    Attributes:
        counts: int64 [2 * BINS], from minus `limit` to `limit`.
        zeros: how many values are exactly 0; `counts` has these values, too, in bin BINS.
        exponent: the power of two that `limit` is; None if no value was counted.
        minimum: the least value; inf if no value was counted.
        maximum: the greatest value; -inf if no value was counted.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * BINS, np.int64)
        self.zeros = 0
        self.exponent: int | None = None
        self.minimum = math.inf
        self.maximum = -math.inf

    @property
    def limit(self) -> float:
        """The upper edge of the last bin; the first bin begins at minus this limit."""
        return 2.0 ** (self.exponent or 0)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 2 * BINS + 1 bin edges."""
        return np.linspace(-self.limit, self.limit, 2 * BINS + 1)

    @property
    def width(self) -> float:
        """The width of one bin."""
        return self.limit / BINS

    @property
    def amax(self) -> float:
        """The largest magnitude; 0 if no value was counted."""
        return max(-self.minimum, self.maximum, 0.0)

    def update(self, values: NDArray[np.float32]) -> Self:
        """Count every element of an array of any shape.

        Raises:
            ValueError: a value is not finite.
        """
        if not values.size:
            return self
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("a tensor with values that are not finite has no range")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._grow_to(_exponent_above(max(-low, high)))
        # Scaling by a power of two is exact, so that no value can slip into a neighbouring bin.
        index = values.ravel() * np.float32(BINS / self.limit)
        if low < 0:
            np.floor(index, out=index)
            if self.limit > BINS:
                # A scale below 1 can turn a tiny negative value into -0, which would land in the bin of 0.
                index[(index == 0) & (values.ravel() < 0)] = -1
        shifted = index.astype(np.int32)
        shifted += BINS
        self.counts += np.bincount(shifted, minlength=2 * BINS)
        self.zeros += int(np.count_nonzero(values == 0))
        return self

    def merge(self, other: Self) -> Self:
        """Add the counts of another histogram, whose limit may grow by that."""
        if other.exponent is not None:
            self._grow_to(other.exponent)
            assert self.exponent is not None
            other._grow_to(self.exponent)
            self.counts += other.counts
            self.zeros += other.zeros
            self.minimum = min(self.minimum, other.minimum)
            self.maximum = max(self.maximum, other.maximum)
        return self

    def quantile(self, share: float) -> float:
        """Return the upper edge of the first bin up to which at least `share` of all values lie.

        The result is at most the maximum and at least the minimum.
        """
        target = share * self.counts.sum()
        index = int(np.searchsorted(self.counts.cumsum(), target - 1e-9))
        return float(np.clip(self.edges[index + 1], self.minimum, self.maximum))

    def nonzero_counts(self) -> NDArray[np.int64]:
        """Return `counts` without the values that are exactly 0."""
        counts = self.counts.copy()
        counts[BINS] -= self.zeros
        return counts

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation; every value that is not 0 counts as the centre of its bin."""
        counts, total = self.nonzero_counts(), self.counts.sum()
        centres = (np.arange(-BINS, BINS) + 0.5) * self.width
        mean = float(counts @ centres / total)
        return mean, math.sqrt((counts @ (centres - mean) ** 2 + self.zeros * mean**2) / total)

    def mirrored(self) -> Self:
        """Return the histogram of -x; a value on the edge of two bins moves to the other bin."""
        return self._with(self.counts[::-1], -self.maximum, -self.minimum)

    def magnitudes(self) -> Self:
        """Return the histogram of |x|; a negative value on the edge of two bins goes to the lower bin."""
        folded = np.zeros_like(self.counts)
        folded[BINS:] = self.counts[BINS:] + self.counts[BINS - 1 :: -1]
        return self._with(folded, max(self.minimum, -self.maximum, 0.0), self.amax)

    def _with(self, counts: NDArray[np.int64], minimum: float, maximum: float) -> Self:
        other = type(self)()
        other.counts, other.zeros, other.exponent = counts, self.zeros, self.exponent
        other.minimum, other.maximum = minimum, maximum
        return other

    def _grow_to(self, exponent: int) -> None:
        if self.exponent is None or self.exponent >= exponent:
            self.exponent = exponent if self.exponent is None else self.exponent
            return
        # All bins of one side can merge into one bin at most.
        ratio = 2 ** min(exponent - self.exponent, BINS.bit_length() - 1)
        merged = self.counts.reshape(-1, ratio).sum(1)
        self.counts = np.zeros(2 * BINS, np.int64)
        start = BINS - len(merged) // 2
        self.counts[start : start + len(merged)] = merged
        self.exponent = exponent


def _exponent_above(magnitude: float) -> int:
    """Return the smallest e with magnitude < 2**e, but at least -100, so that float32 can scale by the limit.

    Zero gives -100, because a batch of zeros must not widen the bins of the other batches.
    """
    return max(math.frexp(magnitude)[1], _LEAST_EXPONENT) if magnitude else _LEAST_EXPONENT
