"""Find the clip point of least Kullback-Leibler divergence, which is TensorRT's entropy calibration.

The method is that of S. Migacz, "8-bit Inference with TensorRT" (GTC 2017). It starts from the histogram
p_0 ... p_(N-1) of |x|. For each number i of bins that may be kept, from 128 to N, it compares

    reference  P = p_0 ... p_(i-1), with the counts of all bins beyond added to the last bin
    candidate  Q = p_0 ... p_(i-1) merged into 128 levels, level(j) = floor(128 j / i), with the count
                   of each level spread evenly over the bins of the level that are not empty

and the threshold is the upper edge of the i bins with the least KL(P || Q), P and Q normalised to 1.

The slides leave three points open. They are settled as in NVIDIA's own calibrators (pytorch-quantization
and Model Optimizer, `_compute_amax_entropy`):

1. The bin at zero counts as much as the bin next to it. Zero is exact under every scale, and half of the
   values behind a ReLU are zero; spread over a whole level, their count would outweigh all others.
2. If several thresholds have the same divergence, the widest one is taken.
3. If the last bin is empty but receives the clipped counts, the divergence is infinite, because Q is 0
   in that bin.

Call q_l the count of level l, c_l the number of its bins that are not empty, P_l the part of P in level l
before normalisation, S the sum of all p, and S_i the sum of the first i. Then

    KL = (sum_j P_j log P_j - sum_l P_l log(q_l / c_l)) / S + log(S_i / S)

This form needs only differences of running sums: 128 terms for each candidate instead of i.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histogram import BINS, Histogram

LEVELS = 128
# Two divergences that differ by less are taken as equal, because each is a sum of thousands of float64 terms.
_TIE = 1e-11


def entropy_threshold(histogram: Histogram) -> float:
    """Return the magnitude to clip at, which is at most the largest magnitude in the histogram."""
    counts = histogram.magnitudes().counts[BINS:]
    occupied = np.flatnonzero(counts)
    # There are fewer bins than levels only near the smallest floats, where clipping gains nothing.
    if not histogram.amax or occupied[-1] < LEVELS:
        return histogram.amax
    by_kept = divergences(counts[: occupied[-1] + 1])
    best = np.flatnonzero(by_kept <= by_kept.min() + _TIE)[-1]
    return min((LEVELS + int(best)) * histogram.width, histogram.amax)


def divergences(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return KL(P || Q) in nats for each number of bins kept, from LEVELS to all.

    Args:
        counts: the histogram of |x|, [N] with N >= LEVELS; the last bin must not be empty.

    Returns:
        float64 [N - LEVELS + 1].
    """
    p = counts.astype(np.float64)
    p[0] = p[1]
    kept = np.arange(LEVELS, len(p) + 1)
    sums, occupied, information = _running(p), _running(p > 0), _running(_xlogx(p))
    starts = _level_starts()[: len(kept)]
    levels = np.diff(sums[starts], axis=1)
    log_q = _log(levels / np.maximum(np.diff(occupied[starts], axis=1), 1))
    inside, last = sums[kept], p[kept - 1]
    clipped = sums[-1] - inside
    p_log_p = information[kept] - _xlogx(last) + _xlogx(last + clipped)
    p_log_q = np.einsum("il,il->i", levels, log_q) + clipped * log_q[:, -1]
    result = (p_log_p - p_log_q) / sums[-1] + _log(inside) - _log(sums[-1:])
    result[(last == 0) & (clipped > 0)] = np.inf
    return result


@cache
def _level_starts() -> NDArray[np.intp]:
    """Return the first bin of each level and, at the end, the bin behind the last level.

    The result is [BINS - LEVELS + 1, LEVELS + 1], with a row for each number of bins kept.
    """
    kept = np.arange(LEVELS, BINS + 1)[:, None]
    return -(-np.arange(LEVELS + 1) * kept // LEVELS)


def _running(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sums of the first n values, for n from 0 to all."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _log(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of counts, each of which is 0 or at least 1.

    The logarithm of 0 is given as 0, because every such term is then multiplied by 0.
    """
    return np.log(np.maximum(counts, 1))


def _xlogx(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * _log(counts)
