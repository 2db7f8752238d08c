"""Write QuantizeLinear behind a float16 convolution in arithmetic, so that the convolution's kernel does it.

TensorRT for RTX runs what follows a float16 convolution in that convolution's kernel, conversions to INT8
among it, but not QuantizeLinear, because of the operator Round inside. What QuantizeLinear computes,

    q = saturate(round(x / s)),    halves to even,

is computed here in float32 without Round:

    q = int8(clip(x / s, -128, 127) + M - M),    M = 1.5 x 2^23

Between 2^23 and 2^24 float32 holds the integers and nothing between, so that the addition rounds, halves to
even, and the subtraction gives the rounded number back without an error. The clip comes first, which changes
nothing, since its limits are integers. The conversion to INT8 then meets integers alone: whether a kernel
truncates there, as ONNX says, or rounds does not matter.

A QuantizeLinear is left as it is where

    (1) no convolution's kernel writes the tensor
    (2) the convolution that writes the tensor is quantized itself: its kernel writes float16
    (3) the codes are not int8: the kernels do not convert to FP8
"""

import numpy as np
import onnx_ir as ir

from graphs.epilogue import convolutions_that_write
from graphs.onnx_file import constant, initializer, replace_node

# The difference of its neighbours in float32 is 1, and that stays so for 2^22 to both sides.
ROUNDER = 1.5 * 2.0**23
_LEAST, _GREATEST = -128, 127


def quantize_in_epilogues(model: ir.Model) -> int:
    """Rewrite in place and return the number of rewritten QuantizeLinear nodes.

    Args:
        model: Q/DQ graph of the rtx flavour.
    """
    rewritable = [node for node in model.graph if node.op_type == "QuantizeLinear" and _is_rewritable(node)]
    if rewritable:
        constants = [
            initializer(model.graph, f"epilogue.{name}", np.array(value, np.float32))
            for name, value in (("least", _LEAST), ("greatest", _GREATEST), ("rounder", ROUNDER))
        ]
        for node in rewritable:
            _rewrite(model.graph, node, *constants)
    return len(rewritable)


def _is_rewritable(quantize: ir.Node) -> bool:
    value, _, zero_point = quantize.inputs
    assert value is not None
    if constant(zero_point).dtype != np.int8 or len(value.uses()) > 1:
        return False
    return any(_is_float(conv) for conv in convolutions_that_write(value))


def _is_float(conv: ir.Node) -> bool:
    """Whether a convolution's weight is no DequantizeLinear's output."""
    weight = conv.inputs[1]
    return weight is not None and weight.const_value is not None


def _rewrite(
    graph: ir.Graph, quantize: ir.Node, least: ir.Value, greatest: ir.Value, rounder: ir.Value
) -> None:
    value, scale, _ = quantize.inputs
    wide_scale = initializer(graph, f"{quantize.name}.scale", constant(scale).astype(np.float32))
    for operator, operands in (
        ("Cast", []),
        ("Div", [wide_scale]),
        ("Clip", [least, greatest]),
        ("Add", [rounder]),
        ("Sub", [rounder]),
    ):
        attributes = {"to": int(ir.DataType.FLOAT)} if operator == "Cast" else {}
        node = ir.node(operator, [value, *operands], attributes, name=f"{quantize.name}.{operator.lower()}")
        node.outputs[0].name = str(node.name)
        graph.insert_before(quantize, node)
        value = node.outputs[0]
    codes = ir.node("Cast", [value], {"to": int(ir.DataType.INT8)}, name=str(quantize.name))
    replace_node(graph, quantize, codes)
