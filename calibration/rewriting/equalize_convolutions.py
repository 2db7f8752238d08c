"""Give all output channels of a convolution the same largest weight, so that one scale serves each well.

A ReLU lets a positive factor through, relu(f z) = f relu(z). So with w_o and b_o the weights and the bias of
output channel o, and v_po the weights with which convolution p behind the ReLU reads that channel,

    f_o = max |w| / max |w_o|        at most `LARGEST_FACTOR`
    w_o, b_o -> f_o w_o, f_o b_o     and     v_po -> v_po / f_o

is exact but for rounding (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.1, there with factors that share the burden between w and v). Here v stays in
floating point, which a factor costs nothing, and all of the factor is chosen for w: rounded with one scale
for the whole weight, each channel then has the steps that a scale of its own would give.

A convolution is left as it is where

    (1) a node other than a convolution reads its output, behind a ReLU or not: an addition, above all, whose
        other operand would have to be scaled too
    (2) a convolution that is quantized reads its output, because the range of its input is measured already

Precondition: a float32 graph, not quantized, that has the convolutions.
Postcondition: each of the convolutions was scaled or refused, and none was scaled for which (1) or (2) holds.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import InvariantError

from graphs.conditions import require_float32
from graphs.onnx_file import constant, replace_constant
from graphs.passes import GraphPass, PassResult
from graphs.streams import divide_input

# A channel whose weights are all less than 1/256 of the largest one is scaled by 256 and no more: its bias
# grows by the same factor and has to stay within float16's 65504.
LARGEST_FACTOR = 2.0**8


@dataclass(frozen=True)
class EqualizeConvolutions(GraphPass):
    """Scale the output channels of convolutions; the result names the convolutions.

    Attributes:
        quantized: names of the convolutions that are to be quantized.
    """

    name = "equalize_convolutions"
    quantized: Collection[str]

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph with all of these convolutions."""
        require_float32(graph)
        convolutions = {str(node.name) for node in graph.graph if node.op_type == "Conv"}
        if missing := sorted(set(self.quantized) - convolutions):
            raise InvariantError(f"there is no convolution {', '.join(missing)}")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Scale convolution by convolution, in order of execution."""
        scaled, refused = [], {}
        for conv in self._convolutions(graph):
            if reason := _refusal(conv, self.quantized):
                refused[str(conv.name)] = reason
            else:
                _scale_outputs(conv, _factors(constant(conv.inputs[1])))
                scaled.append(str(conv.name))
        return self.result(scaled, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that each was scaled or refused, and that none was scaled for which a reason speaks."""
        for conv in self._convolutions(graph):
            if conv.name in result.refused:
                continue
            if conv.name not in result.changed:
                raise InvariantError(f"Conv {conv.name} was neither scaled nor refused")
            if reason := _refusal(conv, self.quantized):
                raise InvariantError(f"Conv {conv.name} was scaled, though {reason}")

    def _convolutions(self, graph: ir.Model) -> list[ir.Node]:
        return [node for node in graph.graph if node.op_type == "Conv" and node.name in self.quantized]


def _refusal(conv: ir.Node, quantized: Collection[str]) -> str:
    """Return why a convolution is left as it is, or nothing if the convolution can be scaled."""
    for reader in _readers_behind_relu(conv.outputs[0]):
        if reader.op_type != "Conv":
            return f"{reader.op_type} {reader.name} reads its output"
        if reader.name in quantized:
            return f"Conv {reader.name} reads its output in codes"
    return ""


def _readers_behind_relu(value: ir.Value) -> list[ir.Node]:
    readers = [node for node, _ in value.uses()]
    return [
        behind
        for node in readers
        for behind in (_readers_behind_relu(node.outputs[0]) if node.op_type == "Relu" else [node])
    ]


def _factors(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each output channel; 1 for one without weights.

    Args:
        weight: [out, in, kh, kw].
    """
    reach = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float64)
    largest = reach.max()
    without_weights = reach == 0
    reach[without_weights] = largest or 1
    factors = np.minimum(largest / reach, LARGEST_FACTOR)
    return np.where(without_weights, 1, factors)


def _scale_outputs(conv: ir.Node, factors: NDArray[np.float64]) -> None:
    for parameter in conv.inputs[1:]:
        array = constant(parameter)
        replace_constant(parameter, array * factors.reshape(-1, *[1] * (array.ndim - 1)))
    for node, _ in conv.outputs[0].uses():
        divide_input(node, factors)
