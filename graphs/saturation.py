"""Tell from an ONNX file alone which sums of 8-bit products can overflow 16 bits on a CPU without VNNI.

On an x86 CPU without VNNI, kernels multiply unsigned activation codes by signed weight codes and add two
neighbouring products in int16, with saturation (vpmaddubsw, Intel SDM vol. 2). Call the weight codes of
one output channel w_i, and u_i the largest activation code that can meet w_i. No pair of products
overflows, in whatever order a kernel takes the products, if

    max over i != j of  u_i max(w_i, 0) + u_j max(w_j, 0)  <=  32767
    min over i != j of  u_i min(w_i, 0) + u_j min(w_j, 0)  >= -32768

All codes are the raw ones, because kernels subtract the zero point from the sum and not from the codes.
u_i is 255, or the smaller bound that `graphs.code_range` proves for the input channel. int8 activations
count with 255, too, because ONNX Runtime and oneDNN make them unsigned by adding 128. An operator with one
product in each output channel, such as a 1x1 depthwise convolution, cannot overflow: 255 * 128 < 32768.

Both ways to write a quantized graph are examined: Q/DQ form (Conv, MatMul and Gemm with a dequantized
weight) and QOperator form (QLinearConv and the like). Nothing is proved for a weight in uint8 (kernels
make such a weight signed in different ways), for a weight with a zero point, for a weight that is not
constant, and for an operator without a rule in this module; the finding then gives that reason.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.code_range import UINT8_MAX, largest_codes
from graphs.weight_codes import (
    FLOAT_FORM,
    INTEGER_FORM,
    WeightCodes,
    by_channel,
    codes_of_weight,
    is_codes,
    optional_input,
)

# Raise this number with every change of the rules, so that a verdict of the older rules is not reused.
RULES = 3

FREE, SATURATES, UNPROVED = "free", "can saturate", "cannot be proved"

_INT16 = (-32768, 32767)
_WITHOUT_RULE = {"ConvTranspose", "DeformConv", "Einsum", "LSTM", "GRU", "RNN", "Attention"}
_SUMS_OF_PRODUCTS = {*FLOAT_FORM, *INTEGER_FORM, *_WITHOUT_RULE}
# An operator outside ONNX's own domain is taken to sum products of codes unless it is one of these.
_WITHOUT_PRODUCTS = {
    "QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearWhere",
    "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "QLinearReduceMean",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """The verdict on one operator that sums 8-bit products.

    Attributes:
        node: the name of the node, or the name of the node's output if the node has no name.
        op_type: the operator, for example "QLinearConv".
        verdict: "free", "can saturate" or "cannot be proved".
        pair_sum: the largest sum of two products in `channel`, in magnitude; None if the codes are not known.
        channel: the output channel that comes nearest to an overflow or overflows by most.
        reason: why nothing is proved; empty for the other two verdicts.
    """

    node: str
    op_type: str
    verdict: str
    pair_sum: int | None = None
    channel: int | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def saturation_findings(model: ir.Model) -> list[Finding]:
    """Return a finding for each operator that sums 8-bit products, in order of execution.

    Args:
        model: a graph without local functions, such as `graphs.onnx_file.any_graph_from_file` returns.
    """
    return [finding for node in model.graph if (finding := _finding(node)) is not None]


def not_proved_free(findings: Iterable[Finding]) -> list[str]:
    """Return the names of the nodes that can saturate or for which nothing is proved."""
    return [finding.node for finding in findings if finding.verdict != FREE]


def extreme_pairs(
    low: NDArray[np.int64], high: NDArray[np.int64], largest: NDArray[np.int64] | int = UINT8_MAX
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the smallest and the largest sum of two different products in each channel.

    Args:
        low: the lowest value of each weight code, [channels, products].
        high: the highest value of each weight code, [channels, products].
        largest: the largest activation code of each product, broadcast against `low` and `high`.

    Returns:
        two arrays [channels].
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
    if node.op_type in FLOAT_FORM and not is_codes(node.inputs[0]):
        return Finding(
            name, node.op_type, UNPROVED, pair_sum, channel, "the activation is not quantized in this graph"
        )
    return Finding(name, node.op_type, SATURATES, pair_sum, channel)


def _verdict(node: ir.Node) -> tuple[NDArray[np.int64], NDArray[np.int64]] | str | None:
    """Return the extreme pairs of each channel, or the reason why they are not known.

    The result is None for a node that sums no 8-bit products.
    """
    if _sums_in_branches(node):
        return "the operators in the branches of control flow are not examined"
    if _has_rule(node):
        codes = codes_of_weight(node)
        if not isinstance(codes, WeightCodes):
            return codes
        largest = _largest_per_product(node, codes.low)
        return extreme_pairs(by_channel(node, codes.low), by_channel(node, codes.high), largest)
    known = node.op_type in _WITHOUT_PRODUCTS or (node.domain == "" and node.op_type not in _WITHOUT_RULE)
    if known or not any(is_codes(value) for value in node.inputs):
        return None
    return "there is no rule for " + " ".join(filter(None, (node.domain, node.op_type)))


def _has_rule(node: ir.Node) -> bool:
    domain = "com.microsoft" if node.op_type == "QGemm" else ""
    return node.domain == domain and node.op_type in {*FLOAT_FORM, *INTEGER_FORM}


def _sums_in_branches(node: ir.Node) -> bool:
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs += attribute.as_graphs()
    return any(inside.op_type in _SUMS_OF_PRODUCTS for graph in graphs for inside in graph.all_nodes())


def _largest_per_product(node: ir.Node, codes: NDArray[np.int64]) -> NDArray[np.int64] | int:
    """Return the largest activation code in each product of a convolution, [channels, products].

    The result is 255 for any other operator, and a single number where all products share the bound.
    """
    if node.op_type not in ("Conv", "QLinearConv"):
        return UINT8_MAX
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if node.op_type == "QLinearConv":
        largest = largest_codes(value, optional_input(node, 2))
    elif producer is not None and producer.op_type == "DequantizeLinear":
        largest = largest_codes(producer.inputs[0], optional_input(producer, 2))
    else:
        return UINT8_MAX
    outputs, inputs = codes.shape[:2]
    group = node.attributes.get_int("group", 1)
    if largest.size != group * inputs:
        return int(largest.max())
    by_input = np.repeat(largest.reshape(group, inputs), outputs // group, axis=0)
    return np.repeat(by_input, codes[0, 0].size, axis=1)
