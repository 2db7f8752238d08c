"""Make every rounding of a float16 or bfloat16 graph explicit, so that a float32 machine cannot skip it.

    y = f(x)   in 16 bits      becomes      y = Cast16(f(Cast32(x)))

which is how ONNX defines an operator on 16 bits up to the order of its sums: computed as if exactly,
rounded once. Runtimes without float16 kernels compute such graphs in float32 and drop the casts they
put in themselves, so that nothing between two operators is rounded, and nothing overflows; without
bfloat16 kernels they refuse them.
"""

import numpy as np
import onnx_ir as ir

from graphs.onnx_file import initializer

_NARROW = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
# Their 16-bit operands are scales, and their codes are integers: they round by themselves.
_LEFT_ALONE = {"Cast", "QuantizeLinear", "DequantizeLinear"}


def make_rounding_explicit(model: ir.Model) -> int:
    """Rewrite in place and return the number of rewritten operators."""
    graph = model.graph
    widened: dict[str, ir.Value] = {}
    rewritten = 0
    for node in list(graph):
        if node.op_type in _LEFT_ALONE:
            continue
        narrow = [i for i, value in enumerate(node.inputs) if value is not None and value.dtype in _NARROW]
        for index in narrow:
            node.replace_input_with(index, _wide(graph, node, index, widened))
        rewritten += bool(narrow)
        for output in node.outputs:
            if narrow and output.dtype in _NARROW:
                _round(graph, node, output, output.dtype)
    return rewritten


def _wide(graph: ir.Graph, node: ir.Node, index: int, widened: dict[str, ir.Value]) -> ir.Value:
    """A float32 value equal to a 16-bit operand: another constant, or a Cast before the node."""
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
    """Let the node give float32, and round that to the 16-bit value its consumers had."""
    uses = list(output.uses())
    cast = ir.node("Cast", [output], {"to": int(dtype)}, name=f"{output.name}.rounded")
    rounded = cast.outputs[0]
    rounded.name, rounded.shape = f"{output.name}.rounded", output.shape
    rounded.type, output.type = ir.TensorType(dtype), ir.TensorType(ir.DataType.FLOAT)
    graph.insert_after(node, cast)
    for consumer, index in uses:
        consumer.replace_input_with(index, rounded)
