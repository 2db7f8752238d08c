"""The ranges of least expected squared quantization error.

A quantizer with step s and codes a ... b turns x into k s where x lies between the decision boundaries
(k - 1/2) s and (k + 1/2) s, and into a s or b s beyond the outermost ones. With the integrated
distribution function R(t) = E[max(t - x, 0)], since going down from code k + 1 to k takes
2 s ((k + 1/2) s - x) off (x - Q)^2,

    E[(x - Q(x))^2] = E[(x - b s)^2] - 2 s sum_(k = a ... b - 1) R((k + 1/2) s)

so the sum of one function at 255 points is the whole error, rounding inside and clipping outside,
without a pass over the bins. R is exact for values spread evenly within their bins, where it is
quadratic. Values that are exactly 0 have no error under any range and are left out.

The quantizers are those of `calibration.quantizing.scales`: uint8 with a rounded zero point over [low, high],
and int8 with the codes -127 ... 127 over [-amax, amax]. Lengths below are in bins.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from calibration.quantizing.scales import INT8_LIMIT, UINT8_LEVELS
from calibration.ranges.histogram import BINS, Histogram

Array = NDArray[np.float64]
# The first grid goes from one bin to all that was seen, by a factor of at most sqrt(2); each of the
# others puts 4 steps into one of the grid before, down to 0.5 %.
_COARSE = 25
_FINE = 9
_ROUNDS = 3


def mse_range(histogram: Histogram) -> tuple[float, float]:
    """The ends of the uint8 range; (0, 0) where nothing but zeros was seen."""
    error = _error_of(histogram)

    def of_range(below: Array, above: Array) -> Array:
        step = (below + above) / UINT8_LEVELS
        return error(step, -np.rint(below / step), UINT8_LEVELS + 1)

    below, above = _least(of_range, -histogram.minimum, histogram.maximum, histogram.width)
    return -below, above


def mse_amax(histogram: Histogram) -> float:
    """The end of the int8 range; 0 where nothing but zeros was seen."""
    error = _error_of(histogram)

    def of_amax(_: Array, amax: Array) -> Array:
        return error(amax / INT8_LIMIT, np.full_like(amax, -INT8_LIMIT), 2 * INT8_LIMIT + 1)

    return _least(of_amax, 0.0, histogram.amax, histogram.width)[1]


def _error_of(histogram: Histogram) -> Callable[[Array, Array, int], Array]:
    """The summed squared error of quantizers, in square bins, as a function of theirs.

    The function takes steps s [K], first codes a [K] and the number of codes, and gives errors [K].
    """
    counts = histogram.nonzero_counts().astype(np.float64)
    centres = np.arange(-BINS, BINS) + 0.5
    total, first, second = (float((counts * centres**n).sum()) for n in (0, 1, 2))
    second += total / 12
    # At the left edge of each bin: how many values lie below, and R.
    below = np.cumsum(counts) - counts
    integrated = np.cumsum(below + counts / 2) - (below + counts / 2)

    def error(step: Array, first_code: Array, codes: int) -> Array:
        boundaries = (first_code[:, None] + np.arange(codes - 1) + 0.5) * step[:, None]
        boundaries += BINS
        # No boundary lies beyond the limit, at most on it.
        index = np.minimum(boundaries.astype(np.intp), 2 * BINS - 1)
        inside = boundaries - index
        r = integrated[index] + inside * (below[index] + inside / 2 * counts[index])
        highest = (first_code + codes - 1) * step
        return second - 2 * highest * first + highest**2 * total - 2 * step * r.sum(1)

    return error


def _least(
    error: Callable[[Array, Array], Array], below: float, above: float, width: float
) -> tuple[float, float]:
    """How far to go below and above zero.

    Args:
        error: of extents [K] below and [K] above, in bins, where not both are 0.
        below: the largest extent below zero; nothing lies there if it is not positive.
        above: likewise above.
        width: of a bin.
    """
    extremes = [max(below, 0.0) / width, max(above, 0.0) / width]
    if not any(extremes):
        return 0.0, 0.0
    ratios = [max(e, 1.0) ** (1 / (_COARSE - 1)) for e in extremes]
    grids = [np.geomspace(e, min(e, 1.0), _COARSE) if e else np.zeros(1) for e in extremes]
    found = _best_of(error, grids)
    for _ in range(_ROUNDS):
        grids = [_around(*side) for side in zip(found, ratios, extremes, strict=True)]
        found = _best_of(error, grids)
        ratios = [r ** (2 / (_FINE - 1)) for r in ratios]
    # Where in the outermost bin its values lie is not known, only that the extreme is one of them.
    kept = [e if f > e - 1 else f for f, e in zip(found, extremes, strict=True)]
    return kept[0] * width, kept[1] * width


def _best_of(error: Callable[[Array, Array], Array], grids: list[Array]) -> tuple[float, float]:
    """The pair of extents with the least error; of equal ones the first, which is the widest."""
    lows, highs = (grid.ravel() for grid in np.meshgrid(*grids))
    best = error(lows, highs).argmin()
    return float(lows[best]), float(highs[best])


def _around(extent: float, ratio: float, extreme: float) -> Array:
    """Extents by a factor of up to `ratio` wider and narrower, widest first."""
    return np.unique(np.minimum(extent * np.geomspace(1 / ratio, ratio, _FINE), extreme))[::-1]
