"""Put an operator behind the output of a graph."""

from collections.abc import Mapping

import onnx_ir as ir


def follow_output(graph: ir.Graph, operator: str, attributes: Mapping[str, int], name: str) -> None:
    """Append an operator to the only output of a graph, and make the operator's result the output.

    Args:
        graph: changed in place; its output is a tensor of any float type.
        operator: an ONNX operator of one input and one output of the same shape, for example "Softmax".
        attributes: the attributes of the operator.
        name: of the node and of the new output, which is float32.
    """
    former = graph.outputs[0]
    node = ir.node(operator, [former], attributes, name=name)
    output = node.outputs[0]
    output.name = name
    output.type = ir.TensorType(ir.DataType.FLOAT)
    output.shape = former.shape
    graph.append(node)
    graph.outputs[0] = output
