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
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.onnx_file import constant, replace_constant
from graphs.streams import divide_input

# A channel whose weights are all less than 1/256 of the largest one is scaled by 256 and no more: its bias
# grows by the same factor and has to stay within float16's 65504.
LARGEST_FACTOR = 2.0**8


def equalize_convolutions(model: ir.Model, quantized: Collection[str]) -> dict[str, str]:
    """Scale the output channels of the convolutions that are to be quantized, in place.

    Args:
        model: float32 graph.
        quantized: names of convolutions.

    Returns:
        names of those that are left as they are, each with the reason.
    """
    refused = {}
    for conv in model.graph:
        if conv.op_type == "Conv" and conv.name in quantized:
            if reason := _refusal(conv, quantized):
                refused[str(conv.name)] = reason
            else:
                _scale_outputs(conv, _factors(constant(conv.inputs[1])))
    return refused


def _refusal(conv: ir.Node, quantized: Collection[str]) -> str | None:
    for reader in _readers_behind_relu(conv.outputs[0]):
        if reader.op_type != "Conv":
            return f"{reader.op_type} {reader.name} reads its output"
        if reader.name in quantized:
            return f"Conv {reader.name} reads its output in codes"
    return None


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
