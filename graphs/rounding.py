"""Make every rounding of a float16 or bfloat16 graph explicit, so that a float32 machine cannot skip one.

    y = f(x)   in 16 bits      becomes      y = Cast16(f(Cast32(x)))

ONNX defines an operator on 16 bits in this way, up to the order of its sums: as if the result were computed
exactly and rounded once. A runtime without float16 kernels computes such a graph in float32 and drops the
casts that the runtime put in, so that nothing is rounded between two operators and nothing overflows. A
runtime without bfloat16 kernels refuses a bfloat16 graph.

Cast, QuantizeLinear and DequantizeLinear are no cases for this pass: their 16-bit operands are scales and
their codes are integers, so that these operators round by themselves.

Precondition: the type of every tensor is known; a 16-bit tensor without a type would be passed over.
Postcondition: no other operator reads or writes a 16-bit tensor.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from graphs.conditions import CODING, require_types
from graphs.onnx_file import initializer, remove_unread
from graphs.passes import GraphPass, PassResult

_NARROW = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
_ROUND_BY_THEMSELVES = {"Cast", *CODING}


@dataclass(frozen=True)
class ExplicitRounding(GraphPass):
    """Put float32 and Casts in the place of 16-bit operators; the result names the operators."""

    name = "rounding"

    def requires(self, graph: ir.Model) -> None:
        """Require the types of all tensors."""
        require_types(graph)

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Widen what each operator reads and round what the operator writes."""
        widened: dict[str, ir.Value] = {}
        rewritten = []
        for node in _computing(graph):
            narrow = [
                i for i, value in enumerate(node.inputs) if value is not None and value.dtype in _NARROW
            ]
            for index in narrow:
                operand = node.inputs[index]
                node.replace_input_with(index, _wide(graph.graph, node, index, widened))
                remove_unread(graph.graph, [operand])
            if narrow:
                rewritten.append(str(node.name))
                for output in node.outputs:
                    if output.dtype in _NARROW:
                        _round(graph.graph, node, output, output.dtype)
        return self.result(rewritten)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that only Casts, QuantizeLinear and DequantizeLinear touch 16 bits."""
        for node in _computing(graph):
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.dtype in _NARROW:
                    raise InvariantError(f"{node.op_type} {node.name} still has {value.name} in 16 bits")


def _computing(model: ir.Model) -> list[ir.Node]:
    """Return the nodes whose results a runtime could leave unrounded."""
    return [node for node in model.graph if node.op_type not in _ROUND_BY_THEMSELVES]


def _wide(graph: ir.Graph, node: ir.Node, index: int, widened: dict[str, ir.Value]) -> ir.Value:
    """Return a float32 value equal to a 16-bit operand: another constant, or a Cast before the node."""
    value = node.inputs[index]
    assert value is not None
    name = f"{value.name}.wide"
    if name in widened:
        return widened[name]
    if value.const_value is not None:
        wide = initializer(graph, name, value.const_value.numpy().astype(np.float32))
    else:
        cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=name)
        wide = cast.outputs[0]
        wide.name, wide.type, wide.shape = name, ir.TensorType(ir.DataType.FLOAT), value.shape
        graph.insert_before(node, cast)
    widened[name] = wide
    return wide


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value, dtype: ir.DataType) -> None:
    """Let the node give float32, and round the result to the 16-bit value that its readers had."""
    uses = list(output.uses())
    cast = ir.node("Cast", [output], {"to": int(dtype)}, name=f"{output.name}.rounded")
    rounded = cast.outputs[0]
    rounded.name, rounded.shape = f"{output.name}.rounded", output.shape
    rounded.type, output.type = ir.TensorType(dtype), ir.TensorType(ir.DataType.FLOAT)
    graph.insert_after(node, cast)
    for consumer, index in uses:
        consumer.replace_input_with(index, rounded)
