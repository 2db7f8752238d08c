"""Find the ranges of least expected squared quantization error.

A quantizer with step s and codes a ... b turns x into k s if x lies between the decision boundaries
(k - 1/2) s and (k + 1/2) s, and into a s or b s if x lies beyond the outermost boundary. Going down from
code k + 1 to code k takes 2 s ((k + 1/2) s - x) off (x - Q)^2. With the integrated distribution function
R(t) = E[max(t - x, 0)] it follows that

    E[(x - Q(x))^2] = E[(x - b s)^2] - 2 s sum_(k = a ... b - 1) R((k + 1/2) s)

The sum of one function at 255 points is therefore the whole error, from rounding inside the range and from
clipping outside, and no pass over the bins is needed. R is computed as if the values were spread evenly
within each bin, where R is then quadratic. Values that are exactly 0 have no error under any range and are
left out.

The quantizers are those of `calibration.quantizing.scales`: uint8 with a rounded zero point over
[low, high], and int8 with the codes -127 ... 127 over [-amax, amax]. All lengths below are in bins.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from calibration.quantizing.scales import INT8_LIMIT, UINT8_LEVELS
from calibration.ranges.histogram import BINS, Histogram

Array = NDArray[np.float64]
# The first grid of extents has 25 points from one bin to the extreme value, each at most sqrt(2) times the
# one before. Each of the 3 grids after it divides a step of the grid before by 4, so that the last step is
# 0.5 %.
_COARSE = 25
_FINE = 9
_ROUNDS = 3


def mse_range(histogram: Histogram) -> tuple[float, float]:
    """Return the two ends of the uint8 range; (0, 0) if all values are 0."""
    error = _error_of(histogram)

    def of_range(below: Array, above: Array) -> Array:
        step = (below + above) / UINT8_LEVELS
        return error(step, -np.rint(below / step), UINT8_LEVELS + 1)

    below, above = _least(of_range, -histogram.minimum, histogram.maximum, histogram.width)
    return -below, above


def mse_amax(histogram: Histogram) -> float:
    """Return the end of the int8 range; 0 if all values are 0."""
    error = _error_of(histogram)

    def of_amax(_: Array, amax: Array) -> Array:
        return error(amax / INT8_LIMIT, np.full_like(amax, -INT8_LIMIT), 2 * INT8_LIMIT + 1)

    return _least(of_amax, 0.0, histogram.amax, histogram.width)[1]


def _error_of(histogram: Histogram) -> Callable[[Array, Array, int], Array]:
    """Return the function that computes the summed squared error of K quantizers.

    The function takes the steps s [K], the first codes a [K] and the number of codes, and returns the errors
    [K] in square bins.
    """
    counts = histogram.nonzero_counts().astype(np.float64)
    centres = np.arange(-BINS, BINS) + 0.5
    total, first, second = (float((counts * centres**n).sum()) for n in (0, 1, 2))
    second += total / 12
    # Both arrays refer to the left edge of each bin: how many values lie below the edge, and R at the edge.
    below = np.cumsum(counts) - counts
    integrated = np.cumsum(below + counts / 2) - (below + counts / 2)

    def error(step: Array, first_code: Array, codes: int) -> Array:
        boundaries = (first_code[:, None] + np.arange(codes - 1) + 0.5) * step[:, None]
        boundaries += BINS
        # A boundary may lie on the limit of the histogram, but never beyond.
        index = np.minimum(boundaries.astype(np.intp), 2 * BINS - 1)
        inside = boundaries - index
        r = integrated[index] + inside * (below[index] + inside / 2 * counts[index])
        highest = (first_code + codes - 1) * step
        return second - 2 * highest * first + highest**2 * total - 2 * step * r.sum(1)

    return error


def _least(
    error: Callable[[Array, Array], Array], below: float, above: float, width: float
) -> tuple[float, float]:
    """Return how far the range of least error reaches below and above zero.

    Args:
        error: computes the errors [K] of the extents [K] below and [K] above zero, in bins, which must not
            both be 0.
        below: the largest extent below zero; no value is negative if this is not positive.
        above: the largest extent above zero; no value is positive if this is not positive.
        width: the width of a bin.
    """
    extremes = [max(below, 0.0) / width, max(above, 0.0) / width]
    if not any(extremes):
        return 0.0, 0.0
    ratios = [max(e, 1.0) ** (1 / (_COARSE - 1)) for e in extremes]
    grids = [np.geomspace(e, min(e, 1.0), _COARSE) if e else np.zeros(1) for e in extremes]
    extents = _best_of(error, grids)
    for _ in range(_ROUNDS):
        grids = [_around(*side) for side in zip(extents, ratios, extremes, strict=True)]
        extents = _best_of(error, grids)
        ratios = [ratio ** (2 / (_FINE - 1)) for ratio in ratios]
    # Of the values in the outermost bin only the extreme is known, so an extent that ends in that bin is
    # taken to the extreme.
    below, above = (
        extreme if extent > extreme - 1 else extent for extent, extreme in zip(extents, extremes, strict=True)
    )
    return below * width, above * width


def _best_of(error: Callable[[Array, Array], Array], grids: list[Array]) -> tuple[float, float]:
    """Return the pair of extents with the least error, and the widest pair if several have that error."""
    lows, highs = (grid.ravel() for grid in np.meshgrid(*grids))
    best = error(lows, highs).argmin()
    return float(lows[best]), float(highs[best])


def _around(extent: float, ratio: float, extreme: float) -> Array:
    """Return extents that are wider and narrower by a factor of up to `ratio`, widest first."""
    return np.unique(np.minimum(extent * np.geomspace(1 / ratio, ratio, _FINE), extreme))[::-1]
