"""Rewrite a ReLU that shares its input as LeakyRelu(alpha=0), the same function.

ONNX Runtime folds a Relu into the QuantizeLinear behind it only if it can also fold it into what is
before. Where a block's Add feeds both the skip path and a Relu it cannot, and it has no integer Relu;
LeakyRelu does have an integer kernel, QLinearLeakyRelu, a look-up in a table of 256 entries.
"""

import onnx_ir as ir

from graphs.onnx_file import replace_node


def relu_as_lookup(model: ir.Model) -> list[str]:
    """Rewrite in place and return the names of the rewritten nodes."""
    rewritten = []
    for relu in list(model.graph):
        if relu.op_type == "Relu" and len(relu.inputs[0].uses()) > 1:  # type: ignore[union-attr]
            lookup = ir.node("LeakyRelu", relu.inputs, {"alpha": 0.0}, name=relu.name)
            replace_node(model.graph, relu, lookup)
            rewritten.append(str(relu.name))
    return rewritten
