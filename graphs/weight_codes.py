"""Find the integer weight codes of an operator, and tell codes from real numbers.

The weight of a Q/DQ operator (Conv, MatMul and Gemm) stands behind a DequantizeLinear; the weight of an
operator in QOperator form (QLinearConv and the like) is an input of the operator. Where the codes are not
known, the reason is returned instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.code_range import fixed_array

_INT8 = (-128, 127)
FLOAT_FORM = {"Conv", "MatMul", "Gemm"}
# The indices of the inputs that hold the weight and the zero point of the weight; input 0 is the activation.
INTEGER_FORM = {
    "ConvInteger": (1, 3),
    "MatMulInteger": (1, 3),
    "QLinearConv": (3, 5),
    "QLinearMatMul": (3, 5),
    "QGemm": (3, 5),
}
# These operators hand codes on unchanged, and runtimes move dequantizers through them.
_MOVES = {
    "Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat",
    "Expand", "Gather", "Pad", "MaxPool", "Cast",
}  # fmt: skip


@dataclass(frozen=True)
class WeightCodes:
    """The lowest and the highest value that each weight code may have.

    Both are the same code unless the weight is a float constant behind a QuantizeLinear. The runtime
    rounds such a weight when it loads the file, and a code may come out one higher or one lower.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]


def codes_of_weight(node: ir.Node) -> WeightCodes | str | None:
    """Return the int8 codes of an operator's weight.

    The result is the reason if the codes are not known, and None if the weight has no 8-bit codes.
    """
    if node.op_type in INTEGER_FORM:
        index, index_of_zero_point = INTEGER_FORM[node.op_type]
        return _codes_of(node.inputs[index], optional_input(node, index_of_zero_point))
    first, weight = node.inputs[:2]
    producer = weight.producer() if weight is not None else None
    if producer is not None and producer.op_type == "DequantizeLinear":
        return _codes_of(producer.inputs[0], optional_input(producer, 2))
    if _comes_from_codes(weight):
        return "the weight is computed from codes"
    if not _depends_on_input(first) and _comes_from_codes(first):
        return "the first operand is the weight"
    return None


def _codes_of(codes: ir.Value | None, zero_point: ir.Value | None) -> WeightCodes | str | None:
    array, slack = fixed_array(codes), 0
    if array is None:
        array, slack = _quantized_at_load(codes), 1
    if array is None:
        return "the weight is not constant"
    if array.dtype == np.uint8:
        return "the weight is in uint8, which kernels make signed in different ways"
    if array.dtype != np.int8:
        # Products of 4-bit codes cannot overflow, those of 16-bit codes are added in 32 bits, and those of
        # float8 codes are no integers.
        return None
    zeros = fixed_array(zero_point)
    if zero_point is not None and (zeros is None or zeros.any()):
        return "the weight has a zero point"
    wide = array.astype(np.int64)
    return WeightCodes(np.maximum(wide - slack, _INT8[0]), np.minimum(wide + slack, _INT8[1]))


def _quantized_at_load(codes: ir.Value | None) -> NDArray[Any] | None:
    """Return the int8 or uint8 codes of a float constant behind a QuantizeLinear, by ONNX's rule.

    The result is None if the codes come from anything else or have another type.
    """
    node = codes.producer() if codes is not None else None
    if node is None or node.op_type != "QuantizeLinear" or "block_size" in node.attributes:
        return None
    values, scale = fixed_array(node.inputs[0]), fixed_array(node.inputs[1])
    zero_point = fixed_array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1, np.uint8)
    if values is None or scale is None or zero_point is None or zero_point.dtype not in (np.int8, np.uint8):
        return None
    along = [1] * values.ndim
    if scale.size > 1:
        along[node.attributes.get_int("axis", 1)] = -1
    limits = np.iinfo(zero_point.dtype)
    wide = np.rint(values.astype(np.float64) / scale.astype(np.float64).reshape(along))
    return np.clip(wide + zero_point.astype(np.float64).reshape(along), limits.min, limits.max).astype(
        zero_point.dtype
    )


def by_channel(node: ir.Node, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the weight codes as [output channels, products]."""
    if "Conv" in node.op_type:
        return codes.reshape(len(codes), -1)
    if codes.ndim < 2:
        return codes.reshape(1, -1)
    if not node.attributes.get_int("transB", 0):
        codes = codes.swapaxes(-1, -2)
    return codes.reshape(-1, codes.shape[-1])


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input of a node, or None if the node has fewer inputs."""
    return node.inputs[index] if index < len(node.inputs) else None


def is_codes(value: ir.Value | None) -> bool:
    """Tell whether a tensor holds 8-bit codes or dequantized codes that were at most moved since."""
    return _reaches_codes(value, through=_MOVES)


def _comes_from_codes(value: ir.Value | None) -> bool:
    """Tell whether a weight is made of 8-bit codes.

    A weight that depends on no input may be computed from codes by any operator, because a runtime may fold
    that computation when it loads the file.
    """
    return _reaches_codes(value, through=_MOVES if _depends_on_input(value) else None)


def _reaches_codes(value: ir.Value | None, through: set[str] | None) -> bool:
    return any(
        seen.dtype in (ir.DataType.INT8, ir.DataType.UINT8)
        or getattr(seen.producer(), "op_type", "") in ("QuantizeLinear", "DequantizeLinear")
        for seen in _upstream(value, through)
    )


def _depends_on_input(value: ir.Value | None) -> bool:
    return any(seen.is_graph_input() for seen in _upstream(value, None))


def _upstream(value: ir.Value | None, through: set[str] | None) -> Iterator[ir.Value]:
    """Yield a value and all values that it is computed from by the operators `through`; None means any."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        yield value
        producer = value.producer()
        if producer is not None and (through is None or producer.op_type in through):
            waiting += producer.inputs
