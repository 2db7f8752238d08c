"""Which sums of 8-bit products can overflow 16 bits on an x86 CPU without VNNI, from the file alone.

There, kernels multiply unsigned activation codes by signed weight codes and add two neighbouring
products in int16, with saturation (vpmaddubsw, Intel SDM vol. 2). With w the codes of an output
channel and u_i the largest code that can meet w_i, no pair of products overflows in whatever order a
kernel takes them if

    max over i != j of  u_i max(w_i, 0) + u_j max(w_j, 0)  <=  32767
    min over i != j of  u_i min(w_i, 0) + u_j min(w_j, 0)  >= -32768

The codes are the raw ones: kernels take the zero point off the sum, not off the codes. u_i is 255, or
what `graphs.code_range` proves of the input channel. int8 activations are counted with 255, too:
ONNX Runtime and oneDNN make them unsigned by adding 128. An operator that has one product a channel,
such as a 1x1 depthwise convolution, cannot overflow: 255 * 128 < 32768.

Looked at are Q/DQ form (Conv, MatMul and Gemm whose weight is dequantized) and QOperator form. What
is not proved is named with its reason: weights in uint8 (kernels differ in how they make them
signed), weights with a zero point, weights that are not constant, and operators without a rule here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.code_range import UINT8_MAX, fixed_array, largest_codes

# Raised when a file may come to be judged otherwise, so that verdicts kept from before are not repeated.
RULES = 2

FREE, SATURATES, UNPROVED = "free", "can saturate", "cannot be proved"

_INT16 = (-32768, 32767)
_INT8 = (-128, 127)
_FLOAT_FORM = {"Conv", "MatMul", "Gemm"}
# Where the weight and its zero point stand; the activation is the first operand.
_INTEGER_FORM = {
    "ConvInteger": (1, 3),
    "MatMulInteger": (1, 3),
    "QLinearConv": (3, 5),
    "QLinearMatMul": (3, 5),
    "QGemm": (3, 5),
}
_WITHOUT_RULE = {"ConvTranspose", "DeformConv", "Einsum", "LSTM", "GRU", "RNN", "Attention"}
_SUMS_OF_PRODUCTS = {*_FLOAT_FORM, *_INTEGER_FORM, *_WITHOUT_RULE}
# Of other domains, these sum no products.
_WITHOUT_PRODUCTS = {
    "QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearWhere",
    "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "QLinearReduceMean",
}  # fmt: skip
# They hand codes on as they are; runtimes move dequantizers through them.
_MOVES = {
    "Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat",
    "Expand", "Gather", "Pad", "MaxPool", "Cast",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What is known of one operator that sums 8-bit products.

    Attributes:
        node: its name, or its output's if it has none.
        verdict: "free", "can saturate" or "cannot be proved".
        pair_sum: the largest sum of two products, in magnitude; None if the codes are not known.
        channel: the output channel it occurs in.
        reason: why nothing is proved; empty otherwise.
    """

    node: str
    op_type: str
    verdict: str
    pair_sum: int | None = None
    channel: int | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Codes:
    """Lowest and highest value of each weight code; alike but where a runtime will round it itself."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]


def saturation_findings(model: ir.Model) -> list[Finding]:
    """One finding for each operator that sums 8-bit products, in order of execution.

    Args:
        model: with local functions inlined, as `graphs.onnx_file.any_graph_from_file` gives it.
    """
    return [finding for node in model.graph if (finding := _finding(node)) is not None]


def not_proved_free(findings: Iterable[Finding]) -> list[str]:
    """Names of the operators that can saturate or of which nothing is proved."""
    return [finding.node for finding in findings if finding.verdict != FREE]


def extreme_pairs(
    low: NDArray[np.int64], high: NDArray[np.int64], largest: NDArray[np.int64] | int = UINT8_MAX
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest and largest sum of two products of each channel, one code never meeting itself.

    Args:
        low, high: [channels, products] bounds of the weight codes.
        largest: of the activation codes, broadcast against them.
    """
    positive = np.sort(np.maximum(high * largest, 0), axis=1)
    negative = np.sort(np.minimum(low * largest, 0), axis=1)
    return negative[:, :2].sum(1), positive[:, -2:].sum(1)


def _finding(node: ir.Node) -> Finding | None:
    name = node.name or str(node.outputs[0].name)
    result = _verdict(node)
    if result is None:
        return None
    if isinstance(result, str):
        return Finding(name, node.op_type, UNPROVED, reason=result)
    smallest, largest = result
    excess = np.maximum(largest - _INT16[1], _INT16[0] - smallest)
    channel = int(excess.argmax())
    pair_sum = int(max(largest[channel], smallest[channel], key=abs))
    if excess[channel] <= 0:
        return Finding(name, node.op_type, FREE, pair_sum, channel)
    if node.op_type in _FLOAT_FORM and not _is_codes(node.inputs[0]):
        return Finding(
            name, node.op_type, UNPROVED, pair_sum, channel, "its activation is not quantized here"
        )
    return Finding(name, node.op_type, SATURATES, pair_sum, channel)


def _verdict(node: ir.Node) -> tuple[NDArray[np.int64], NDArray[np.int64]] | str | None:
    """Extreme pairs of each channel, why they are not known, or None for what sums no 8-bit products."""
    if _sums_in_branches(node):
        return "what stands in the branches of control flow is not looked at"
    if _has_rule(node):
        codes = _weight_codes(node)
        if not isinstance(codes, _Codes):
            return codes
        largest = _largest_per_product(node, codes.low)
        return extreme_pairs(_by_channel(node, codes.low), _by_channel(node, codes.high), largest)
    known = node.op_type in _WITHOUT_PRODUCTS or (node.domain == "" and node.op_type not in _WITHOUT_RULE)
    if known or not any(_is_codes(value) for value in node.inputs):
        return None
    return "there is no rule for " + " ".join(filter(None, (node.domain, node.op_type)))


def _has_rule(node: ir.Node) -> bool:
    home = "com.microsoft" if node.op_type == "QGemm" else ""
    return node.domain == home and node.op_type in {*_FLOAT_FORM, *_INTEGER_FORM}


def _sums_in_branches(node: ir.Node) -> bool:
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs += attribute.as_graphs()
    return any(inside.op_type in _SUMS_OF_PRODUCTS for graph in graphs for inside in graph.all_nodes())


def _weight_codes(node: ir.Node) -> _Codes | str | None:
    """int8 codes of the weight, why they are not known, or None if it is not in 8 bits."""
    if node.op_type in _INTEGER_FORM:
        index, index_of_zero_point = _INTEGER_FORM[node.op_type]
        return _codes_of(node.inputs[index], _optional(node, index_of_zero_point))
    first, weight = node.inputs[:2]
    producer = weight.producer() if weight is not None else None
    if producer is not None and producer.op_type == "DequantizeLinear":
        return _codes_of(producer.inputs[0], _optional(producer, 2))
    if _comes_from_codes(weight):
        return "its weight is computed from codes"
    if not _depends_on_input(first) and _comes_from_codes(first):
        return "its first operand is the weight"
    return None


def _codes_of(codes: ir.Value | None, zero_point: ir.Value | None) -> _Codes | str | None:
    array, slack = fixed_array(codes), 0
    if array is None:
        array, slack = _quantized_at_load(codes), 1
    if array is None:
        return "its weight is not constant"
    if array.dtype == np.uint8:
        return "its weight is in uint8, which kernels make signed in ways that differ"
    if array.dtype != np.int8:
        # 4 bits cannot overflow, 16 are added in 32, and float8 is not integer.
        return None
    zeros = fixed_array(zero_point)
    if zero_point is not None and (zeros is None or zeros.any()):
        return "its weight has a zero point"
    wide = array.astype(np.int64)
    return _Codes(np.maximum(wide - slack, _INT8[0]), np.minimum(wide + slack, _INT8[1]))


def _quantized_at_load(codes: ir.Value | None) -> NDArray[Any] | None:
    """Codes of a float constant behind a QuantizeLinear, by ONNX's rule; of int8 and uint8 only."""
    node = codes.producer() if codes is not None else None
    if node is None or node.op_type != "QuantizeLinear" or "block_size" in node.attributes:
        return None
    values, scale = fixed_array(node.inputs[0]), fixed_array(node.inputs[1])
    zero_point = fixed_array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1, np.uint8)
    if values is None or scale is None or zero_point is None or zero_point.dtype not in (np.int8, np.uint8):
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    along = [1] * values.ndim
    if scale.size > 1:
        along[axis] = -1
    limits = np.iinfo(zero_point.dtype)
    wide = np.rint(values.astype(np.float64) / scale.astype(np.float64).reshape(along))
    return np.clip(wide + zero_point.astype(np.float64).reshape(along), limits.min, limits.max).astype(
        zero_point.dtype
    )


def _by_channel(node: ir.Node, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """[output channels, products] of the weight codes."""
    if "Conv" in node.op_type:
        return codes.reshape(len(codes), -1)
    if codes.ndim < 2:
        return codes.reshape(1, -1)
    transposed = node.attributes.get("transB")
    if transposed is None or not transposed.as_int():
        codes = codes.swapaxes(-1, -2)
    return codes.reshape(-1, codes.shape[-1])


def _largest_per_product(node: ir.Node, codes: NDArray[np.int64]) -> NDArray[np.int64] | int:
    """Largest activation code in each product of a convolution, [channels, products]; 255 elsewhere."""
    if node.op_type not in ("Conv", "QLinearConv"):
        return UINT8_MAX
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if node.op_type == "QLinearConv":
        largest = largest_codes(value, _optional(node, 2))
    elif producer is not None and producer.op_type == "DequantizeLinear":
        largest = largest_codes(producer.inputs[0], _optional(producer, 2))
    else:
        return UINT8_MAX
    outputs, inputs = codes.shape[:2]
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if largest.size != group * inputs:
        return int(largest.max())
    own = np.repeat(largest.reshape(group, inputs), outputs // group, axis=0)
    return np.repeat(own, codes[0, 0].size, axis=1)


def _is_codes(value: ir.Value | None) -> bool:
    """Whether a tensor is 8-bit codes, or is dequantized from some and only moved since."""
    return _reaches_codes(value, through=_MOVES)


def _comes_from_codes(value: ir.Value | None) -> bool:
    """The same for a weight; a runtime may fold whatever else is done to a constant one."""
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
    """A value and what it is computed from by the operators `through`, or by any."""
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


def _optional(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None
