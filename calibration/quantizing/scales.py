"""Ranges to scales, and arrays to integers (ONNX QuantizeLinear: round half to even, saturate).

    activation, uint8:  s = (high - low) / 255,   z = round(-low / s)
    activation, int8:   s = amax / 127,           z = 0
    weight, int8:       s_c = max |w_c| / 127 for each output channel c,  z = 0
    bias, int32:        s_c = s_x s_c,            z = 0

Saturation-safe weights. Without VNNI, x86 CPUs add two neighbouring uint8 x int8 products in 16
bits. Codes of an activation with zero point above 0 are large everywhere, and 2 * 255 * 127 exceeds
32767. With w the weights of a channel, no pair can overflow, in whatever order a kernel takes the
products, if also

    s_c >= (sum of its two largest positive weights) / 128
    s_c >= (sum of its two largest negative weights' magnitudes) / 128

since then two weights of one sign are at most 128 steps; rounded, each by at most half a step, their
codes add up to 128 at most, and 128 * 255 <= 32767. Just under 128 steps are used, because the scale
and the quotients are themselves rounded to float32, and 129 * 255 is too much.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

INT8_LIMIT = 127
UINT8_LEVELS = 255
# Bias codes stay clear of the accumulator's own limit.
_BIAS_LIMIT = 2**30
_PAIR_LIMIT = 127.999
# float32 and float16 can hold it and divide by it.
_SMALLEST = float(np.finfo(np.float16).tiny)


class Range(NamedTuple):
    """What of a tensor is not clipped, for either quantizer.

    Attributes:
        low: lower end for uint8.
        high: upper end for uint8.
        amax: int8 reaches from -amax to amax; its best clip point need not be an end of the other.
    """

    low: float
    high: float
    amax: float

    @classmethod
    def spanning(cls, low: float, high: float) -> Self:
        """The range that reaches as far for int8 as for uint8."""
        return cls(low, high, max(-low, high))


@dataclass(frozen=True)
class ActivationScale:
    """One scale and zero point for a tensor; the zero point's dtype is the code's."""

    scale: np.float32
    zero_point: np.uint8 | np.int8 | ml_dtypes.float8_e4m3fn


def activation_scale(value_range: Range, symmetric: bool) -> ActivationScale:
    """Scale of an activation, symmetric int8 or uint8; 1 for a tensor that is always zero."""
    if symmetric:
        return ActivationScale(usable(value_range.amax / INT8_LIMIT), np.int8(0))
    low, high = min(value_range.low, 0.0), max(value_range.high, 0.0)
    scale = usable((high - low) / UINT8_LEVELS)
    zero_point = np.clip(np.rint(-low / scale), 0, UINT8_LEVELS)
    return ActivationScale(scale, np.uint8(zero_point))


def weight_scales(weight: NDArray[np.float32], saturation_safe: bool) -> NDArray[np.float32]:
    """Scale of each output channel.

    A channel without weights gets the smallest scale, in which its bias, all that is left of it, is
    still told apart.

    Args:
        weight: [out, in, kh, kw].
        saturation_safe: rule out 16-bit overflow of pairs of products, as above.
    """
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    needed = np.abs(flat).max(1) / INT8_LIMIT
    if saturation_safe and flat.shape[1] > 1:
        largest = np.sort(flat, axis=1)
        positive = np.maximum(largest[:, -2:], 0).sum(1)
        negative = np.maximum(-largest[:, :2], 0).sum(1)
        needed = np.maximum(needed, np.maximum(positive, negative) / _PAIR_LIMIT)
    return np.maximum(needed, _SMALLEST).astype(np.float32)


def tensor_weight_scale(weight: NDArray[np.float32]) -> np.float32:
    """One int8 scale for all output channels of a weight; 1 for a weight that is zero throughout."""
    return usable(float(np.abs(weight).max()) / INT8_LIMIT)


def widened_for_bias(
    scales: NDArray[np.float32], bias: NDArray[np.float32], activation: np.float32
) -> NDArray[np.float32]:
    """Enlarge the scales of channels whose weights are so small that their int32 bias overflows."""
    return np.maximum(scales, np.abs(bias) / (activation * _BIAS_LIMIT)).astype(np.float32)


def weight_codes(weight: NDArray[np.float32], scales: NDArray[np.floating]) -> NDArray[np.int8]:
    """int8 codes of a weight [out, in, kh, kw] under per-channel scales [out], or under one scale []."""
    ratio = weight / scales.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(ratio), -INT8_LIMIT, INT8_LIMIT).astype(np.int8)


def bias_codes(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """int32 codes of a bias [out] under the accumulator's scales [out]."""
    return np.rint(bias.astype(np.float64) / scales).astype(np.int32)


def usable(scale: float) -> np.float32:
    """A scale that float32 and float16 can hold and divide by; 1 where every value is zero."""
    if scale == 0:
        return np.float32(1)
    return np.float32(max(scale, _SMALLEST))
