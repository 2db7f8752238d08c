"""Weights of convolutions to codes: int8 with one scale per output channel, or one for all in E4M3 and
in the rtx flavour.

Codes are computed from the float graph (`coded_weights`), because the corrections of the biases
(`calibration.quantizing.correct_bias`) need the errors of all weights and the streams, which Q/DQ pairs
hide. The pass then stores the codes and corrects the biases.

Precondition: the weights are float constants.
Postcondition: each of the convolutions reads its weight through a DequantizeLinear.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import InvariantError

from calibration.quantizing.codes import dequantizer, store_codes
from calibration.quantizing.correct_bias import Corrections, mean_error
from calibration.quantizing.e4m3 import e4m3_codes, e4m3_weight_scale
from calibration.quantizing.scales import (
    ActivationScale,
    tensor_weight_scale,
    weight_codes,
    weight_scales,
    widened_for_bias,
)
from calibration.quantizing.scheme import Scheme
from graphs.onnx_file import add_to_bias, constant, replace_constant
from graphs.passes import GraphPass, PassResult
from vocabulary import Flavour, Precision, Saturation


@dataclass(frozen=True)
class CodedWeight:
    """A weight in codes.

    Attributes:
        codes: int8 or E4M3 [out, in / groups, kh, kw].
        scales: [out], or one for the whole weight in E4M3 and in the rtx flavour.
        error: mean error [out] that rounding the weight brings to the convolution's output.
    """

    codes: np.ndarray
    scales: np.ndarray
    error: NDArray[np.float64]


def coded_weight(
    conv: ir.Node,
    activation: ActivationScale,
    means: NDArray[np.float64],
    scheme: Scheme,
    real: np.dtype,
) -> CodedWeight:
    """Return a convolution's weight in codes.

    Args:
        activation: scale of the convolution's input.
        means: of the input, per channel [in].
        real: type that the scales are stored in.
    """
    weight = constant(conv.inputs[1]).astype(np.float32)
    if scheme.precision == Precision.fp8:
        scales = np.asarray(e4m3_weight_scale(weight), real)
        codes = e4m3_codes(weight, scales)
    elif scheme.flavour == Flavour.rtx:
        scales = np.asarray(tensor_weight_scale(weight), real)
        codes = weight_codes(weight, scales)
    else:
        scales = _int8_scales(conv, weight, activation, scheme).astype(real)
        codes = weight_codes(weight, scales)
    rounded = codes.astype(np.float64) * scales.astype(np.float64).reshape(-1, 1, 1, 1)
    return CodedWeight(codes, scales, mean_error(weight, rounded, means))


def _int8_scales(
    conv: ir.Node, weight: NDArray[np.float32], activation: ActivationScale, scheme: Scheme
) -> NDArray[np.float32]:
    # Codes are large throughout only if the tensor has a zero point over 0, as the images have; behind a
    # ReLU the zero point is 0 and most codes are small.
    large = int(activation.zero_point) > 0
    safe = scheme.saturation == Saturation.proved or (scheme.saturation == Saturation.stem and large)
    scales = weight_scales(weight, saturation_safe=scheme.is_for_cpus and safe)
    if scheme.is_for_cpus and len(conv.inputs) > 2:
        return widened_for_bias(scales, constant(conv.inputs[2]), activation.scale)
    return scales


@dataclass(frozen=True)
class QuantizeWeights(GraphPass):
    """Store codes and correct biases; the result names the convolutions.

    Attributes:
        weights: codes by the name of the convolution.
        corrections: of the biases of convolutions and the means of BN.
        real: type of a bias that a convolution did not have.
    """

    name = "quantize_weights"
    weights: Mapping[str, CodedWeight]
    corrections: Corrections
    real: np.dtype

    def requires(self, graph: ir.Model) -> None:
        """Require convolutions with float weights."""
        nodes = {node.name: node for node in graph.graph}
        for name in self.weights:
            if name not in nodes or nodes[name].op_type != "Conv":
                raise InvariantError(f"there is no convolution {name}")
            weight = nodes[name].inputs[1]
            if weight is None or weight.const_value is None:
                raise InvariantError(f"the weight of {name} is no constant")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Rewrite convolution by convolution in the order of `weights`, and then BN by BN."""
        nodes = {str(node.name): node for node in graph.graph}
        for name, weight in self.weights.items():
            store_codes(graph.graph, nodes[name], 1, weight.codes, weight.scales)
            if name in self.corrections.biases:
                add_to_bias(graph.graph, nodes[name], self.corrections.biases[name], self.real)
        for name, change in self.corrections.means.items():
            mean = nodes[name].inputs[3]
            replace_constant(mean, constant(mean) + change)
        return self.result(self.weights)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that a DequantizeLinear stands before every weight."""
        for node in graph.graph:
            if node.name in self.weights and dequantizer(node, 1) is None:
                raise InvariantError(f"Conv {node.name} still has a float weight")
