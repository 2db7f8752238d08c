"""A streaming histogram whose result does not depend on the order of what it saw.

4,096 equal bins on each side of zero, up to a limit that is always a power of two above the largest
magnitude seen. When the limit has to grow, it doubles and adjacent bins merge two by two, towards
zero; since bin edges are then powers of two apart, each value lands where it would have landed had
the final limit been known at the start. So batches may come in any order, histograms of parts may be
merged, and memory is constant. The largest magnitude lies in the upper half of its side, so at least
2,048 bins cover what was seen.
"""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

BINS = 4096
_LEAST_EXPONENT = -100


class Histogram:
    """Counts of the values of one tensor, with their exact minimum and maximum.

    Attributes:
        counts: int64 [2 * BINS], from minus `limit` to `limit`.
        zeros: how many values are exactly 0; `counts` has them too, in bin BINS.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * BINS, np.int64)
        self.zeros = 0
        self.exponent: int | None = None
        self.minimum = math.inf
        self.maximum = -math.inf

    @property
    def limit(self) -> float:
        """Upper edge of the last bin; the first one begins at minus this."""
        return 2.0 ** (self.exponent or 0)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 2 * BINS + 1 bin edges."""
        return np.linspace(-self.limit, self.limit, 2 * BINS + 1)

    @property
    def width(self) -> float:
        """Of one bin."""
        return self.limit / BINS

    @property
    def amax(self) -> float:
        """The largest magnitude seen; 0 if nothing was."""
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
            raise ValueError("values that are not finite have no range")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._grow_to(_exponent_above(max(-low, high)))
        # Scaling by a power of two is exact, so no value can slip into a neighbouring bin.
        index = values.ravel() * np.float32(BINS / self.limit)
        if low < 0:
            np.floor(index, out=index)
            if self.limit > BINS:
                # A scale below 1 can turn a tiny negative value into -0, whose bin is another.
                index[(index == 0) & (values.ravel() < 0)] = -1
        shifted = index.astype(np.int32)
        shifted += BINS
        self.counts += np.bincount(shifted, minlength=2 * BINS)
        self.zeros += int(np.count_nonzero(values == 0))
        return self

    def merge(self, other: Self) -> Self:
        """Add what another histogram counted; it may be grown, its counts stay the same."""
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
        """The upper edge of the bin below which at least `share` of all values lie, at most the maximum."""
        target = share * self.counts.sum()
        index = int(np.searchsorted(self.counts.cumsum(), target - 1e-9))
        return float(np.clip(self.edges[index + 1], self.minimum, self.maximum))

    def nonzero_counts(self) -> NDArray[np.int64]:
        """`counts` without the values that are exactly 0."""
        counts = self.counts.copy()
        counts[BINS] -= self.zeros
        return counts

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation, with each value but 0 at the centre of its bin."""
        counts, total = self.nonzero_counts(), self.counts.sum()
        centres = (np.arange(-BINS, BINS) + 0.5) * self.width
        mean = float(counts @ centres / total)
        return mean, math.sqrt((counts @ (centres - mean) ** 2 + self.zeros * mean**2) / total)

    def mirrored(self) -> Self:
        """The histogram of -x; a value on the edge of two bins changes its bin."""
        return self._with(self.counts[::-1], -self.maximum, -self.minimum)

    def magnitudes(self) -> Self:
        """The histogram of |x|; a negative value on the edge of two bins goes to the lower one."""
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
        # Merging all bins of a side into one is as far as it can go.
        ratio = 2 ** min(exponent - self.exponent, BINS.bit_length() - 1)
        merged = self.counts.reshape(-1, ratio).sum(1)
        self.counts = np.zeros(2 * BINS, np.int64)
        start = BINS - len(merged) // 2
        self.counts[start : start + len(merged)] = merged
        self.exponent = exponent


def _exponent_above(magnitude: float) -> int:
    """The smallest e with magnitude < 2**e; kept where float32 can still scale by it.

    Zero asks for the least limit: a batch that is all zeros must not widen the bins of the others.
    """
    return max(math.frexp(magnitude)[1], _LEAST_EXPONENT) if magnitude else _LEAST_EXPONENT
