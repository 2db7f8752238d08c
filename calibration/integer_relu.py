"""Rewrite a ReLU that shares its input so that ONNX Runtime computes it in integers.

ONNX Runtime has no integer Relu: it folds one into the QuantizeLinear behind it, whose lower end is then
0, and that only if the Relu alone reads its input. Where a pre-activation block's sum feeds both the skip
path and a Relu, one of two rewrites, each the same function, makes it so:

    (1) the sum is computed twice, relu(b + a) beside a + b. QLinearAdd is vectorized, and cheaper than
        a look-up or a BN in its place (results/int8.md); what the branch reads is rounded once, not
        twice. With the operands in the same order, the two would be merged again.
    (2) behind anything but an Add, LeakyRelu(alpha=0), a look-up in a table: QLinearLeakyRelu.
"""

from collections.abc import Collection

import onnx_ir as ir

from graphs.onnx_file import replace_node


def integer_relu(model: ir.Model, left_float: Collection[str] = ()) -> list[str]:
    """Rewrite in place, but for those in `left_float`, and return the names of the ReLUs concerned."""
    rewritten = []
    for relu in list(model.graph):
        if relu.op_type != "Relu" or relu.name in left_float:
            continue
        if len(relu.inputs[0].uses()) == 1:  # type: ignore[union-attr]
            continue
        shared = relu.inputs[0]
        assert shared is not None
        producer = shared.producer()
        if producer is not None and producer.op_type == "Add":
            _repeat_add(model.graph, producer, relu)
        else:
            lookup = ir.node("LeakyRelu", relu.inputs, {"alpha": 0.0}, name=relu.name)
            replace_node(model.graph, relu, lookup)
        rewritten.append(str(relu.name))
    return rewritten


def _repeat_add(graph: ir.Graph, add: ir.Node, relu: ir.Node) -> None:
    again = ir.node("Add", list(reversed(add.inputs)), name=f"{add.name}.again")
    total, copy = add.outputs[0], again.outputs[0]
    copy.name, copy.type, copy.shape = f"{total.name}.again", total.type, total.shape
    graph.insert_after(add, again)
    relu.replace_input_with(0, copy)
