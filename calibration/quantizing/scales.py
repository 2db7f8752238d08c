"""Ranges to scales, and arrays to integers, as ONNX's QuantizeLinear does: round half to even and saturate.

    activation, uint8:  s = (high - low) / 255,   z = round(-low / s)
    activation, int8:   s = amax / 127,           z = 0
    weight, int8:       s_c = max |w_c| / 127 for each output channel c,  z = 0
    bias, int32:        s_c = s_x s_c,            z = 0

Saturation-safe weights. Without VNNI, x86 CPUs add two neighbouring uint8 x int8 products in 16 bits.
The codes of an activation with a zero point above 0 are large everywhere, and 2 * 255 * 127 exceeds 32767.
In whatever order a kernel takes the products, no pair of an output channel c can overflow if also

    s_c >= (sum of the channel's two largest positive weights) / 128
    s_c >= (sum of the magnitudes of the channel's two largest negative weights) / 128

because two weights of one sign are then at most 128 steps. Rounding moves each by at most half a step, so
that their codes add up to 128 at most, and 128 * 255 <= 32767. The limit used is just under 128 steps,
because the scale and the quotients are themselves rounded to float32 and 129 * 255 would be too much.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

INT8_LIMIT = 127
UINT8_LEVELS = 255
# A bias takes up at most half of what the int32 accumulator can hold, so that the products have room.
_BIAS_LIMIT = 2**30
_PAIR_LIMIT = 127.999
# This is the smallest normal number of float16, 6.1e-5. A smaller scale would be rounded coarsely, or to 0,
# in the gpu flavour, whose scales are float16.
_SMALLEST = float(np.finfo(np.float16).tiny)


class Range(NamedTuple):
    """A range is the part of a tensor's values that is not clipped, for uint8 and for symmetric int8.

    Attributes:
        low: lower end for uint8.
        high: upper end for uint8.
        amax: int8 reaches from -amax to amax. The best clip point of int8 need not be an end of the range
            of uint8.
    """

    low: float
    high: float
    amax: float

    @classmethod
    def spanning(cls, low: float, high: float) -> Self:
        """Return a range that reaches as far for int8 as for uint8."""
        return cls(low, high, max(-low, high))


@dataclass(frozen=True)
class ActivationScale:
    """A tensor has one scale and one zero point; the codes have the type of the zero point."""

    scale: np.float32
    zero_point: np.uint8 | np.int8 | ml_dtypes.float8_e4m3fn


def activation_scale(value_range: Range, symmetric: bool) -> ActivationScale:
    """Return the scale of an activation, symmetric int8 or uint8; a tensor of zeros gets scale 1."""
    if symmetric:
        return ActivationScale(usable(value_range.amax / INT8_LIMIT), np.int8(0))
    low, high = min(value_range.low, 0.0), max(value_range.high, 0.0)
    scale = usable((high - low) / UINT8_LEVELS)
    zero_point = np.clip(np.rint(-low / scale), 0, UINT8_LEVELS)
    return ActivationScale(scale, np.uint8(zero_point))


def weight_scales(weight: NDArray[np.float32], saturation_safe: bool) -> NDArray[np.float32]:
    """Return the scale of each output channel, [out].

    A channel whose weights are all zero gets the smallest scale, because the channel's bias is then all
    that this channel gives and a fine scale keeps the bias exact.

    Args:
        weight: [out, in, kh, kw].
        saturation_safe: rule out that pairs of products overflow 16 bits, as the module's docstring says.
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
    """Enlarge the scales [out] of channels whose weights are so small that the bias would overflow int32."""
    return np.maximum(scales, np.abs(bias) / (activation * _BIAS_LIMIT)).astype(np.float32)


def weight_codes(weight: NDArray[np.float32], scales: NDArray[np.floating]) -> NDArray[np.int8]:
    """Return the int8 codes of a weight [out, in, kh, kw] under scales [out] or one scale []."""
    ratio = weight / scales.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(ratio), -INT8_LIMIT, INT8_LIMIT).astype(np.int8)


def bias_codes(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the int32 codes of a bias [out] under scales [out] of the accumulator."""
    return np.rint(bias.astype(np.float64) / scales).astype(np.int32)


def usable(scale: float) -> np.float32:
    """Return a scale that float32 and float16 can hold and divide by; where all values are 0, this is 1."""
    if scale == 0:
        return np.float32(1)
    return np.float32(max(scale, _SMALLEST))
