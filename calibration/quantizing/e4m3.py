"""Ranges and weights to FP8, type E4M3: sign, 4 bits of exponent, 3 of mantissa, 448 at most, no infinity.

    s = amax / 448,    code = E4M3(clip(x / s, -448, 448)),    z = 0

which is QuantizeLinear of ONNX with `saturate`, rounding half to even (OCP 8-bit floating point
specification; ONNX, "Float stored in 8 bits").

One scale serves a whole tensor, of weights too. A number of at least 2^-6 s is off by 2^-4 of itself at
most, whatever its size: only weights 28,672 times smaller than the largest would gain by a scale of
their own channel, and one scale a tensor is what every version of TensorRT takes.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from calibration.quantizing.scales import ActivationScale, Range, usable

E4M3 = ml_dtypes.float8_e4m3fn
E4M3_LIMIT = float(ml_dtypes.finfo(E4M3).max)


def e4m3_activation_scale(value_range: Range) -> ActivationScale:
    """Scale of an activation; 1 for a tensor that is always zero."""
    return ActivationScale(usable(value_range.amax / E4M3_LIMIT), E4M3(0))


def e4m3_weight_scale(weight: NDArray[np.float32]) -> np.float32:
    """Scale of a weight [out, in, kh, kw]; 1 for one that is zero throughout."""
    return usable(float(np.abs(weight).max()) / E4M3_LIMIT)


def e4m3_codes(weight: NDArray[np.float32], scale: NDArray[np.floating]) -> NDArray[Any]:
    """E4M3 codes of a weight under one scale."""
    ratio = weight / scale.astype(np.float32)
    return np.clip(ratio, -E4M3_LIMIT, E4M3_LIMIT).astype(E4M3)
