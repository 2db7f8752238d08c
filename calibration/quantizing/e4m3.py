"""Ranges and weights to FP8, type E4M3, which has a sign, 4 bits of exponent and 3 of mantissa.

The largest number is 448, and there is no infinity.

    s = amax / 448,    code = E4M3(clip(x / s, -448, 448)),    z = 0

This is what ONNX's QuantizeLinear does with `saturate`, rounding half to even (OCP 8-bit floating point
specification; ONNX, "Float stored in 8 bits").

One scale serves a whole tensor, and a whole weight, too. A number of at least 2^-6 s is off by at most
2^-4 of itself, whatever its size. So only weights 28,672 times smaller than the largest one would gain if
each channel had a scale, and every version of TensorRT takes one scale for a tensor.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from calibration.quantizing.scales import ActivationScale, Range, usable

E4M3 = ml_dtypes.float8_e4m3fn
E4M3_LIMIT = float(ml_dtypes.finfo(E4M3).max)


def e4m3_activation_scale(value_range: Range) -> ActivationScale:
    """Return the scale of an activation; a tensor that is always zero gets scale 1."""
    return ActivationScale(usable(value_range.amax / E4M3_LIMIT), E4M3(0))


def e4m3_weight_scale(weight: NDArray[np.float32]) -> np.float32:
    """Return the scale of a weight [out, in, kh, kw]; a weight that is zero throughout gets scale 1."""
    return usable(float(np.abs(weight).max()) / E4M3_LIMIT)


def e4m3_codes(weight: NDArray[np.float32], scale: NDArray[np.floating]) -> NDArray[Any]:
    """Return the E4M3 codes of a weight under one scale."""
    ratio = weight / scale.astype(np.float32)
    return np.clip(ratio, -E4M3_LIMIT, E4M3_LIMIT).astype(E4M3)
