"""Make every float16 rounding of a graph explicit, so that a float32 machine cannot skip it.

    y = f(x)   in float16      becomes      y = Cast16(f(Cast32(x)))

which is how ONNX defines an operator on float16 up to the order of its sums: computed as if exactly,
rounded once. Runtimes without float16 kernels compute such graphs in float32 and drop the casts they
put in themselves, so that nothing between two operators is rounded, and nothing overflows.
"""

import numpy as np
import onnx_ir as ir

from graphs.onnx_file import initializer

# Their float16 operands are scales, and their codes are integers: they round by themselves.
_LEFT_ALONE = {"Cast", "QuantizeLinear", "DequantizeLinear"}


def make_rounding_explicit(model: ir.Model) -> int:
    """Rewrite in place and return the number of rewritten operators."""
    graph = model.graph
    widened: dict[str, ir.Value] = {}
    rewritten = 0
    for node in list(graph):
        if node.op_type in _LEFT_ALONE:
            continue
        halves = [i for i, value in enumerate(node.inputs) if value is not None and _is_half(value)]
        for index in halves:
            node.replace_input_with(index, _wide(graph, node, index, widened))
        rewritten += bool(halves)
        for output in node.outputs:
            if halves and output.dtype == ir.DataType.FLOAT16:
                _round(graph, node, output)
    return rewritten


def _is_half(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT16


def _wide(graph: ir.Graph, node: ir.Node, index: int, widened: dict[str, ir.Value]) -> ir.Value:
    """A float32 value equal to a float16 operand: another constant, or a Cast before the node."""
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


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    """Let the node give float32, and round that to the float16 value its consumers had."""
    uses = list(output.uses())
    cast = ir.node("Cast", [output], {"to": int(ir.DataType.FLOAT16)}, name=f"{output.name}.rounded")
    rounded = cast.outputs[0]
    rounded.name, rounded.shape = f"{output.name}.rounded", output.shape
    rounded.type, output.type = ir.TensorType(ir.DataType.FLOAT16), ir.TensorType(ir.DataType.FLOAT)
    graph.insert_after(node, cast)
    for consumer, index in uses:
        consumer.replace_input_with(index, rounded)
