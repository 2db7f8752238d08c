"""Bound the uint8 codes of an activation, channel by channel, from the graph alone.

A code lies in 0..255. Interval arithmetic proves tighter bounds where the quantized tensor is bounded.
Scales are called s and zero points z:

    QuantizeLinear of x in [a, b]              has codes in floor(a/s) + z .. ceil(b/s) + z
    DequantizeLinear of codes q in [a, b]      lies in s (a - z) .. s (b - z)
    Relu and Clip of x in [a, b]               cut the interval
    1x1 depthwise Conv w x + v, x in [a, b]    lies in w [a, b] + v, in each channel

Any other tensor counts as unbounded. Kernels compute in float32 and add in different orders, so each end
of a convolution's interval is moved outwards by 1e-5 (max |w x| + |v|), and each end of an interval of
codes by one code.

ONNX Runtime 1.31 runs a convolution between two quantizers in integers even where its weight w is in float:
it quantizes w to uint8 with one step d = (max(w, 0) - min(w, 0)) / 255 for the whole tensor, and v in steps
of d s. That moves w by d at most and v by d s / 2, so there each end is moved by another 1.5 d max |x|,
because s is the distance of two values of x.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

UINT8_MAX = 255
# A tensor behind a longer chain of nodes counts as unbounded; networks have fewer between two quantizers.
_MAX_NODES = 16
_ROUNDING = 1e-5

# The lowest and the highest value in float64: [] where all channels share them, or [C].
_Interval = tuple[NDArray[np.float64], NDArray[np.float64]]
_UNBOUNDED: _Interval = (np.array(-np.inf), np.array(np.inf))
_ALL_CODES: _Interval = (np.array(0.0), np.array(float(UINT8_MAX)))


def fixed_array(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array of an initializer or a Constant node, and None for any other value.

    An initializer that is also an input of the graph gives None, because a caller may override it.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def largest_codes(codes: ir.Value | None, padding: ir.Value | None = None) -> NDArray[np.int64]:
    """Return an upper bound of the codes that an operator reads from a uint8 tensor.

    Args:
        codes: the uint8 tensor.
        padding: the code that the operator pads with, which is the zero point of the operator that reads
            `codes`; the quantizer that wrote them may have another one. None stands for code 0.

    Returns:
        int64, [] where all channels share the bound, or [C]; 255 where nothing less is proved.
    """
    largest = _codes(codes, _MAX_NODES)[1].astype(np.int64)
    if padding is None:
        return largest
    code = fixed_array(padding)
    if code is None or code.dtype != np.uint8:
        return np.array(UINT8_MAX)
    return np.maximum(largest, int(code.max()))


def _codes(codes: ir.Value | None, left: int) -> _Interval:
    quantizer = codes.producer() if codes is not None else None
    if quantizer is None or quantizer.op_type != "QuantizeLinear":
        return _ALL_CODES
    parameters = _scale_and_zero_point(quantizer)
    if parameters is None:
        return _ALL_CODES
    scale, zero_point = parameters
    low, high = (bound / scale for bound in _values(quantizer.inputs[0], left - 1))
    low, high = np.floor(low) + zero_point - 1, np.ceil(high) + zero_point + 1
    return np.clip(low, 0, UINT8_MAX), np.clip(high, 0, UINT8_MAX)


def _values(value: ir.Value | None, left: int) -> _Interval:
    node = value.producer() if value is not None else None
    if node is None or left <= 0 or node.domain != "":
        return _UNBOUNDED
    if node.op_type == "DequantizeLinear":
        parameters = _scale_and_zero_point(node)
        if parameters is None:
            return _UNBOUNDED
        low, high = _codes(node.inputs[0], left - 1)
        return (low - parameters[1]) * parameters[0], (high - parameters[1]) * parameters[0]
    if node.op_type == "Relu":
        low, high = _values(node.inputs[0], left - 1)
        return np.maximum(low, 0), np.maximum(high, 0)
    if node.op_type == "Clip":
        return _clipped(node, _values(node.inputs[0], left - 1))
    if node.op_type == "Conv":
        return _depthwise(node, left - 1)
    return _UNBOUNDED


def _clipped(clip: ir.Node, interval: _Interval) -> _Interval:
    low, high = interval
    bounds = [fixed_array(value) for value in clip.inputs[1:3]]
    if bounds and bounds[0] is not None and bounds[0].size == 1:
        low, high = (np.maximum(end, bounds[0].item()) for end in (low, high))
    if len(bounds) > 1 and bounds[1] is not None and bounds[1].size == 1:
        low, high = (np.minimum(end, bounds[1].item()) for end in (low, high))
    return low, high


def _depthwise(conv: ir.Node, left: int) -> _Interval:
    """Bound the output of a 1x1 depthwise convolution; any other convolution is unbounded."""
    weight = _parameter(conv.inputs[1])
    bias = _parameter(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] is not None else np.zeros(1)
    low, high = _values(conv.inputs[0], left)
    if weight is None or bias is None or not (np.isfinite(low).all() and np.isfinite(high).all()):
        return _UNBOUNDED
    if weight.shape != (conv.attributes.get_int("group", 1), 1, 1, 1):
        return _UNBOUNDED
    # The interval of the input includes 0 because the convolution may pad with 0.
    ends = np.stack([weight.ravel() * np.minimum(low, 0), weight.ravel() * np.maximum(high, 0)])
    slack = _ROUNDING * (np.abs(ends).max(0) + np.abs(bias))
    if fixed_array(conv.inputs[1]) is not None:
        step = (max(weight.max(), 0) - min(weight.min(), 0)) / UINT8_MAX
        slack = slack + 1.5 * step * np.maximum(np.abs(low), np.abs(high))
    return ends.min(0) + bias - slack, ends.max(0) + bias + slack


def _parameter(value: ir.Value | None) -> NDArray[np.float64] | None:
    """Return a weight or bias as real numbers if it is constant or dequantized along axis 0, else None."""
    array = fixed_array(value)
    if array is not None:
        return array.astype(np.float64)
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or "block_size" in node.attributes:
        return None
    codes, scale = fixed_array(node.inputs[0]), fixed_array(node.inputs[1])
    zero_point = fixed_array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    if codes is None or scale is None or zero_point is None or codes.ndim == 0:
        return None
    axis = node.attributes.get_int("axis", 1)
    if scale.size != 1 and (axis != 0 or scale.shape != codes.shape[:1]):
        return None
    along = (-1, *[1] * (codes.ndim - 1))
    wide = codes.astype(np.float64) - zero_point.astype(np.float64).reshape(along)
    return wide * scale.astype(np.float64).reshape(along)


def _scale_and_zero_point(node: ir.Node) -> tuple[float, float] | None:
    """Return scale and zero point of a QuantizeLinear or DequantizeLinear node.

    The result is None unless the codes are uint8 and one constant float32 scale serves the whole tensor.
    """
    scale = fixed_array(node.inputs[1])
    zero_point = fixed_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.dtype != np.float32 or zero_point is None or zero_point.dtype != np.uint8:
        return None
    if scale.size != 1 or zero_point.size != 1 or not 0 < scale.item() < np.inf:
        return None
    return float(scale.item()), float(zero_point.item())
