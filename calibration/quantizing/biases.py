"""Biases of convolutions to int32 codes, for CPUs, which add a bias to the sum of products of codes.

The scale of a bias is that of the sum, s_c = s_x s_w,c per output channel, so that the code can be added
to the sum as it is.

Precondition: the convolutions read their weights through DequantizeLinear, which has the scales s_w.
Postcondition: none of these convolutions reads a float bias.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import InvariantError

from calibration.quantizing.codes import dequantizer, store_codes
from calibration.quantizing.scales import ActivationScale, bias_codes
from graphs.onnx_file import constant
from graphs.passes import GraphPass, PassResult


@dataclass(frozen=True)
class QuantizeBiases(GraphPass):
    """Store the codes of biases; the result names the convolutions that have a bias.

    Attributes:
        scales: scale s_x of the input of each convolution, by the name of the convolution.
    """

    name = "quantize_biases"
    scales: Mapping[str, ActivationScale]

    def requires(self, graph: ir.Model) -> None:
        """Require convolutions with coded weights."""
        nodes = {node.name: node for node in graph.graph}
        for name in self.scales:
            if name not in nodes or dequantizer(nodes[name], 1) is None:
                raise InvariantError(f"there is no convolution {name} with a coded weight")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Store convolution by convolution, in the order of `scales`."""
        nodes = {str(node.name): node for node in graph.graph}
        with_bias = [name for name in self.scales if len(nodes[name].inputs) > 2]
        for name in with_bias:
            conv = nodes[name]
            dequantize = dequantizer(conv, 1)
            assert dequantize is not None
            accumulator = constant(dequantize.inputs[1]) * self.scales[name].scale
            store_codes(graph.graph, conv, 2, bias_codes(constant(conv.inputs[2]), accumulator), accumulator)
        return self.result(with_bias)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that a DequantizeLinear stands before every bias."""
        for node in graph.graph:
            if node.name in self.scales and len(node.inputs) > 2 and dequantizer(node, 2) is None:
                raise InvariantError(f"Conv {node.name} still has a float bias")
