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

Precondition: the scale and the zero point of every QuantizeLinear are constants.
Postcondition: no QuantizeLinear is left but those refused, and the codes of all others come from a Cast.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from graphs.epilogue import convolutions_that_write
from graphs.onnx_file import constant, initializer, replace_node
from graphs.passes import GraphPass, PassResult

# The difference of its neighbours in float32 is 1, and that stays so for 2^22 to both sides.
ROUNDER = 1.5 * 2.0**23
_LEAST, _GREATEST = -128, 127


@dataclass(frozen=True)
class QuantizeInEpilogues(GraphPass):
    """Rewrite QuantizeLinear behind float convolutions; the result names the nodes, as do the last Casts."""

    name = "quantize_in_epilogues"

    def requires(self, graph: ir.Model) -> None:
        """Require constant scales and zero points."""
        for node in _quantizers(graph):
            for parameter in node.inputs[1:]:
                if parameter is None or parameter.const_value is None:
                    raise InvariantError(f"a parameter of QuantizeLinear {node.name} is no constant")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Rewrite node by node, in order of execution."""
        reasons = {str(node.name): _refusal(node) for node in _quantizers(graph)}
        rewritable = [node for node in _quantizers(graph) if not reasons[str(node.name)]]
        if rewritable:
            constants = _constants(graph.graph)
            for node in rewritable:
                _rewrite(graph.graph, node, *constants)
        refused = {name: reason for name, reason in reasons.items() if reason}
        return self.result([str(node.name) for node in rewritable], refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that no QuantizeLinear is left but those refused, and that Casts write the other codes."""
        for node in _quantizers(graph):
            if node.name not in result.refused:
                raise InvariantError(f"QuantizeLinear {node.name} is left")
        casts = {node.name for node in graph.graph if node.op_type == "Cast"}
        if missing := sorted(set(result.changed) - casts):
            raise InvariantError(f"no Cast has the name {', '.join(missing)}")


def _quantizers(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "QuantizeLinear"]


def _constants(graph: ir.Graph) -> list[ir.Value]:
    """Return the limits of the codes and the rounder, which all rewritten nodes share."""
    return [
        initializer(graph, f"epilogue.{name}", np.array(value, np.float32))
        for name, value in (("least", _LEAST), ("greatest", _GREATEST), ("rounder", ROUNDER))
    ]


def _refusal(quantize: ir.Node) -> str:
    """Return why a QuantizeLinear is left as it is, or nothing if the node can be rewritten."""
    value, _, zero_point = quantize.inputs
    assert value is not None
    if constant(zero_point).dtype != np.int8:
        return "the codes are not int8, and the kernels of convolutions convert to nothing else"
    writers = convolutions_that_write(value)
    if not writers or len(value.uses()) > 1:
        return "the kernel of no convolution writes this tensor alone"
    if not any(_is_float(conv) for conv in writers):
        return "the convolution that writes this tensor computes in codes, and its kernel writes float16"
    return ""


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
