"""Let ONNX Runtime compute a ReLU on codes even where another node reads the same tensor.

ONNX Runtime has no integer Relu. The runtime folds a Relu into the QuantizeLinear behind the Relu, whose
lower end is then 0, but only if nothing else reads the Relu's input. Where a pre-activation block's sum
feeds both the skip path and a Relu, this Relu stands between a DequantizeLinear and a QuantizeLinear. The
pass rewrites such a Relu in one of two ways:

(1) as a cut, if both nodes have the same scale s and zero point z, because

        relu(s (q - z)) = s (max(q, z) - z):    DequantizeLinear, Relu, QuantizeLinear -> Clip(q, z)

    to the bit. A Clip of codes is the cheapest step over a tensor there is, because a Clip reads and
    writes one byte a value and rounds nothing. With cuts a pre-activation ResNet-164 takes 1.07 times as
    long as the original one; with a second sum whose lowest code is 0 instead, the network took 1.14 to
    1.17 times as long (results/int8.md). In exchange the branch has the codes z..255 only, in steps as wide
    as those of the sum.

(2) as a look-up in a table of 256 entries otherwise: as LeakyRelu(alpha=0), which ONNX Runtime has as
    QLinearLeakyRelu. `calibration.quantizing.activations` gives a Relu a scale of its own where (1) would
    leave the branch too few steps.

A Relu behind a DequantizeLinear is refused if something else reads the dequantized tensor, or if something
else than one QuantizeLinear reads what the Relu writes. A Relu of floats is no case for this pass.

Precondition: every scale and zero point is a constant.
Postcondition: no Relu is left behind a DequantizeLinear but those refused.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from graphs.conditions import CODING
from graphs.onnx_file import constant, replace_node
from graphs.passes import GraphPass, PassResult


@dataclass(frozen=True)
class IntegerRelu(GraphPass):
    """Rewrite the ReLUs between codes of a Q/DQ graph; the result names these ReLUs."""

    name = "integer_relu"

    def requires(self, graph: ir.Model) -> None:
        """Require constant scales and zero points."""
        for node in graph.graph:
            if node.op_type in CODING and any(v is None or v.const_value is None for v in node.inputs[1:]):
                raise InvariantError(f"a parameter of {node.op_type} {node.name} is no constant")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Cut the codes, or look them up."""
        rewritten, refused = [], {}
        for relu in _relus_of_codes(graph):
            name = str(relu.name)
            if reason := _refusal(relu):
                refused[name] = reason
            else:
                _rewrite(graph.graph, relu)
                rewritten.append(name)
        return self.result(rewritten, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that no Relu of dequantized codes is left but those refused."""
        for relu in _relus_of_codes(graph):
            if relu.name not in result.refused:
                raise InvariantError(f"Relu {relu.name} is left behind a DequantizeLinear")


def _relus_of_codes(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Relu" and _dequantizer(node) is not None]


def _dequantizer(relu: ir.Node) -> ir.Node | None:
    """Return the DequantizeLinear that a Relu reads, or None if the Relu reads something else."""
    before = relu.inputs[0].producer()  # type: ignore[union-attr]
    return before if before is not None and before.op_type == "DequantizeLinear" else None


def _refusal(relu: ir.Node) -> str:
    """Return why a Relu of codes must stay a Relu of floats, or nothing if the Relu can be rewritten."""
    if len(relu.inputs[0].uses()) > 1:  # type: ignore[union-attr]
        return "another node reads the same tensor in float"
    if [reader.op_type for reader, _ in relu.outputs[0].uses()] != ["QuantizeLinear"]:
        return "a QuantizeLinear is not the only reader of this Relu"
    return ""


def _rewrite(graph: ir.Graph, relu: ir.Node) -> None:
    dequantize = _dequantizer(relu)
    assert dequantize is not None
    ((quantize, _),) = relu.outputs[0].uses()
    if _have_the_same_codes(dequantize, quantize):
        codes, _, zero_point = dequantize.inputs
        replace_node(graph, quantize, ir.node("Clip", [codes, zero_point], name=relu.name))
        graph.remove([relu, dequantize], safe=True)
    else:
        replace_node(graph, relu, ir.node("LeakyRelu", relu.inputs, {"alpha": 0.0}, name=relu.name))


def _have_the_same_codes(dequantize: ir.Node, quantize: ir.Node) -> bool:
    """Tell whether scale and zero point are the same numbers of the same type."""
    ends = [[constant(value) for value in end.inputs[1:]] for end in (dequantize, quantize)]
    return all(
        one.dtype == other.dtype and np.array_equal(one, other) for one, other in zip(*ends, strict=True)
    )
