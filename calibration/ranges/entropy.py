"""The clip point of least Kullback-Leibler divergence: TensorRT's entropy calibration.

S. Migacz, "8-bit Inference with TensorRT" (GTC 2017), over the histogram p_0 ... p_(N-1) of |x|. For
each number i of bins that may be kept, from 128 to N:

    reference  P = p_0 ... p_(i-1), all that lies beyond added to its last bin
    candidate  Q = p_0 ... p_(i-1) merged into 128 levels, level(j) = floor(128 j / i), and the count
                   of each level spread evenly over those of its bins that are not empty

and the threshold is the upper edge of the i bins for which KL(P || Q), each normalised to 1, is least.

Where the slides leave something open this follows NVIDIA's own calibrators (pytorch-quantization and
Model Optimizer, `_compute_amax_entropy`):

1. The bin at zero counts as much as the one next to it. Zero is exact whatever the scale is, and half
   of what leaves a ReLU is zero: that spike, spread over a whole level, would outweigh all the rest.
2. Of equal divergences the widest threshold wins.
3. A last bin that is empty but takes what was clipped has an infinite divergence: Q is 0 there.

With q_l and c_l the count and the number of bins that are not empty of level l, P_l its share of P
before normalisation, S the sum of all p and S_i that of the first i,

    KL = (sum_j P_j log P_j - sum_l P_l log(q_l / c_l)) / S + log(S_i / S)

which needs only differences of running sums: 128 terms a candidate, not i.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histogram import BINS, Histogram

LEVELS = 128
# Divergences are sums of thousands of float64 terms: closer than this they are equal.
_TIE = 1e-11


def entropy_threshold(histogram: Histogram) -> float:
    """The magnitude to clip at; at most the largest one seen."""
    counts = histogram.magnitudes().counts[BINS:]
    occupied = np.flatnonzero(counts)
    # Bins may be too few only where floats end; there is nothing to gain by clipping there.
    if not histogram.amax or occupied[-1] < LEVELS:
        return histogram.amax
    found = divergences(counts[: occupied[-1] + 1])
    best = np.flatnonzero(found <= found.min() + _TIE)[-1]
    return min((LEVELS + int(best)) * histogram.width, histogram.amax)


def divergences(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """KL(P || Q) in nats for each number of bins kept, from LEVELS to all.

    Args:
        counts: of |x|, [N] with N >= LEVELS; the last bin is not empty.
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
    """First bin of each level, and one past the last: [BINS - LEVELS + 1, LEVELS + 1], a row for each i."""
    kept = np.arange(LEVELS, BINS + 1)[:, None]
    return -(-np.arange(LEVELS + 1) * kept // LEVELS)


def _running(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sum of the first n values, for n from 0 to all."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _log(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of counts, each 0 or at least 1; 0 for 0, which is then multiplied by 0."""
    return np.log(np.maximum(counts, 1))


def _xlogx(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * _log(counts)
