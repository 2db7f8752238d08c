"""float32 graph + ranges -> Q/DQ graph in memory, by a `Scheme`.

cpu       Activations are uint8, weights int8 and biases int32, each behind DequantizeLinear. BN and ReLU
          are rewritten where ONNX Runtime has no integer kernel for them, and a branch reads the codes of
          the stream where these leave the branch enough steps. The head stays float32.
openvino  This is the cpu flavour with two differences. A tensor that takes both signs and that no
          convolution reads is symmetric int8, because OpenVINO runs such sums without zero points. BN and
          ReLU stay as they are.
gpu       Activations and weights are symmetric int8. Biases, BN and the rest are float16, because TensorRT
          takes the precision from the graph; with an fp32 stream all of these stay float32. Either way
          nothing but codes is kept in memory between the convolutions of a branch.
fp8       This is the gpu flavour with E4M3 codes, on the inputs and weights of all convolutions but the stem.
rtx       This is for TensorRT for RTX, which fuses other patterns. Convolutions are quantized where codes
          cost no kernel (`calibration.quantizing.free_codes`); the others stay float16 on purpose. A whole
          weight has one scale, because the kernels of weights with a scale for each channel write float32.
          The output channels are made alike before, so that one scale serves them
          (`calibration.rewriting.equalize_convolutions`).

In the flavours for CPUs, the weights of some convolutions are kept so small that no two products overflow 16
bits on a CPU without VNNI (`calibration.quantizing.scales`), at a cost in resolution. With "stem" these are
the convolutions whose input has a zero point above 0 and so large codes throughout: the stem and, in the
cpu flavour, what reads the stream. With "proved" they are all convolutions, with "full" none.

Each step is a pass:

    (1) bn_as_convolution      cpu with an int8 stream
    (2) equalize_convolutions  rtx in INT8
    (3) narrow                 gpu and rtx, unless the stream is fp32
    (4) quantize_activations   where `calibration.quantizing.placement` puts the pairs
    (5) integer_relu           cpu
    (6) quantize_weights       with the corrections of the biases
    (7) quantize_in_epilogues  rtx, and then pool_by_window
    (8) quantize_biases        cpu and openvino

Precondition: a float32 graph, not quantized.
Postcondition: a convolution computes in codes unless it was refused, and no two nodes share a
DequantizeLinear.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from calibration.quantizing.activations import QuantizeActivations, activation_scales
from calibration.quantizing.biases import QuantizeBiases
from calibration.quantizing.codes import dequantizer
from calibration.quantizing.correct_bias import Corrections, corrections_of
from calibration.quantizing.placement import (
    LEAST_FP8_CHANNELS,
    Use,
    float_nodes,
    has_fp8_kernel,
    quantized_uses,
)
from calibration.quantizing.quantize_in_epilogues import QuantizeInEpilogues
from calibration.quantizing.scales import ActivationScale
from calibration.quantizing.scheme import Scheme
from calibration.quantizing.weights import CodedWeight, QuantizeWeights, coded_weight
from calibration.ranges.ranges_from_graph import Calibrated
from calibration.rewriting.bn_as_convolution import BatchnormAsConvolution
from calibration.rewriting.equalize_convolutions import EqualizeConvolutions
from calibration.rewriting.integer_relu import IntegerRelu
from calibration.rewriting.pool_by_window import PoolByWindow
from graphs.conditions import require_float32
from graphs.narrow import Narrow
from graphs.passes import GraphPass, PassResult
from vocabulary import Flavour, Precision, Stream


@dataclass(frozen=True)
class Quantize(GraphPass):
    """Turn a float32 graph into a Q/DQ graph; the result names the convolutions.

    Attributes:
        calibrated: range and channel means of every tensor, by name.
        scheme: the kind of graph to make.

    Raises:
        UserError: a tensor has no range, because the ranges belong to another network; or there is no such
            block as the scheme leaves in float.
    """

    name = "quantize"
    calibrated: Mapping[str, Calibrated]
    scheme: Scheme

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph."""
        require_float32(graph)

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Run steps (1) to (8)."""
        scheme = self.scheme
        left_float = float_nodes(graph, scheme.float_blocks)
        if scheme.flavour == Flavour.cpu and scheme.stream == Stream.int8:
            BatchnormAsConvolution(left_float)(graph)
        uses = quantized_uses(graph, scheme, left_float)
        scales = activation_scales(uses, self.calibrated, scheme)
        inputs = _inputs_of_convolutions(uses, left_float)
        refused = _refusals(graph, inputs, scheme, left_float)
        if scheme.flavour == Flavour.rtx and scheme.precision == Precision.int8:
            EqualizeConvolutions(inputs.keys())(graph)
        half = not scheme.is_for_cpus and scheme.stream != Stream.fp32
        if half:
            Narrow(Precision.fp16)(graph)
        real = np.dtype(np.float16 if half else np.float32)
        weights = self._coded_weights(graph, inputs, scales, real)
        # The streams that the corrections need are hidden once the activations are quantized.
        corrections = self._corrections(graph, weights)
        QuantizeActivations(uses, scales, real)(graph)
        if scheme.flavour == Flavour.cpu:
            IntegerRelu()(graph)
        QuantizeWeights(weights, corrections, real)(graph)
        if scheme.flavour == Flavour.rtx:
            QuantizeInEpilogues()(graph)
            PoolByWindow()(graph)
        if scheme.is_for_cpus:
            QuantizeBiases({conv: scales[tensor] for conv, tensor in inputs.items()})(graph)
        return self.result(inputs, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that every convolution reads codes or was refused, and that no pair serves two nodes."""
        for node in graph.graph:
            coded = dequantizer(node, 0) is not None and dequantizer(node, 1) is not None
            if node.op_type == "Conv" and node.name not in result.refused and not coded:
                raise InvariantError(f"Conv {node.name} has an input or a weight without codes")
            if node.op_type == "DequantizeLinear" and len(node.outputs[0].uses()) != 1:
                raise InvariantError(
                    f"{node.name} is read by {len(node.outputs[0].uses())} nodes, not by one"
                )

    def _coded_weights(
        self,
        graph: ir.Model,
        inputs: Mapping[str, str],
        scales: Mapping[str, ActivationScale],
        real: np.dtype,
    ) -> dict[str, CodedWeight]:
        nodes = {str(node.name): node for node in graph.graph}
        return {
            conv: coded_weight(
                nodes[conv], scales[tensor], self.calibrated[tensor].channel_means, self.scheme, real
            )
            for conv, tensor in inputs.items()
        }

    def _corrections(self, graph: ir.Model, weights: Mapping[str, CodedWeight]) -> Corrections:
        if not self.scheme.correct_bias:
            return Corrections({}, {})
        errors = {name: weight.error for name, weight in weights.items()}
        return corrections_of(graph, errors, through_batchnorm=self.scheme.flavour == Flavour.openvino)


def _inputs_of_convolutions(uses: Collection[Use], left_float: Collection[str]) -> dict[str, str]:
    """Return the name of the quantized tensor that each convolution reads, by the name of the convolution."""
    return {
        str(use.consumer.name): str(use.value.name)
        for use in uses
        if use.consumer.op_type == "Conv" and use.consumer.name not in left_float
    }


def _refusals(
    graph: ir.Model, quantized: Collection[str], scheme: Scheme, left_float: Collection[str]
) -> dict[str, str]:
    """Return the names of the convolutions that stay float, each with the reason."""
    reasons = {}
    for conv in graph.graph:
        if conv.op_type != "Conv" or conv.name in quantized:
            continue
        if conv.name in left_float:
            reasons[str(conv.name)] = "the block around this convolution is left in float"
        elif scheme.precision == Precision.fp8 and not has_fp8_kernel(conv):
            reasons[str(conv.name)] = (
                f"TensorRT has no FP8 kernel for fewer than {LEAST_FP8_CHANNELS} channels in or out"
            )
        elif scheme.flavour == Flavour.rtx:
            reasons[str(conv.name)] = (
                "the convolution stays float16, because codes of its input would cost TensorRT for RTX a "
                "kernel or save nothing"
            )
    return reasons
