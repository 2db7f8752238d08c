"""Activations to codes: a QuantizeLinear behind each tensor, a DequantizeLinear before each of its readers.

ONNX Runtime forms integer operators only where

    (1) every reader of a quantized tensor has a DequantizeLinear that nothing else reads
    (2) the scale is a true scalar, of shape [] rather than [1]

Precondition: the edges are in the graph, none of them is quantized, and each tensor has a scale.
Postcondition: every edge runs through such a pair.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from artifacts.names import RANGES
from calibration.quantizing.codes import dequantizer
from calibration.quantizing.e4m3 import e4m3_activation_scale
from calibration.quantizing.placement import Use
from calibration.quantizing.scales import UINT8_LEVELS, ActivationScale, Range, activation_scale
from calibration.quantizing.scheme import Scheme
from calibration.ranges.ranges_from_graph import Calibrated
from errors import UserError
from graphs.onnx_file import initializer
from graphs.passes import GraphPass, PassResult
from vocabulary import Flavour, Precision

# A branch reads the stream's codes only if these leave the branch so many steps above 0. A scale for the
# branch alone would give 255 steps, so the branch loses two bits at most.
_LEAST_STEPS = 64


def activation_scales(
    uses: Iterable[Use], calibrated: Mapping[str, Calibrated], scheme: Scheme
) -> dict[str, ActivationScale]:
    """Return the scale of every tensor that is quantized, by name.

    Raises:
        UserError: a tensor has no range, because the ranges belong to another network.
    """
    uses = list(uses)
    read_by_conv = {use.value.name for use in uses if use.consumer.op_type == "Conv"}
    scales: dict[str, ActivationScale] = {}
    for use in uses:
        name = str(use.value.name)
        if name not in calibrated:
            raise UserError(
                f"{RANGES} has no range for {name} and so belongs to another network",
                "calibrate this network",
            )
        value_range = calibrated[name].range
        before_relu = scales.get(_input_of_relu(use.value))
        if before_relu and scheme.flavour == Flavour.cpu and _steps(value_range, before_relu) >= _LEAST_STEPS:
            # The ReLU's input has codes already, and `integer_relu` can cut these.
            scales[name] = before_relu
        elif scheme.precision == Precision.fp8:
            scales[name] = e4m3_activation_scale(value_range)
        else:
            # OpenVINO runs sums without zero points; a convolution, though, reads uint8.
            added = name not in read_by_conv
            signed = scheme.flavour == Flavour.openvino and value_range.low < 0 and added
            scales[name] = activation_scale(value_range, symmetric=signed or not scheme.is_for_cpus)
    return scales


def _steps(value_range: Range, scale: ActivationScale) -> float:
    """Count the steps of a scale that a range has above 0."""
    return min(value_range.high / float(scale.scale), UINT8_LEVELS - int(scale.zero_point))


def _input_of_relu(value: ir.Value) -> str:
    """Return the name of a ReLU's input, if the ReLU writes this value, and nothing otherwise."""
    node = value.producer()
    return str(node.inputs[0].name) if node is not None and node.op_type == "Relu" else ""  # type: ignore[union-attr]


@dataclass(frozen=True)
class QuantizeActivations(GraphPass):
    """Put Q/DQ pairs on edges; the result names the tensors.

    Attributes:
        uses: the edges. Where a Cast now stands between a tensor and a reader, the pair is put behind the
            Cast.
        scales: of the tensors, by name.
        real: type of the tensors, and so of their scales.
    """

    name = "quantize_activations"
    uses: Sequence[Use]
    scales: Mapping[str, ActivationScale]
    real: np.dtype

    def requires(self, graph: ir.Model) -> None:
        """Require edges that are not quantized, and their scales."""
        for use in self.uses:
            if use.consumer.graph is not graph.graph:
                raise InvariantError(f"{use.consumer.op_type} {use.consumer.name} is not in the graph")
            if dequantizer(use.consumer, use.index) is not None:
                raise InvariantError(f"{use.consumer.op_type} {use.consumer.name} reads codes already")
            if use.value.name not in self.scales:
                raise InvariantError(f"the scale of {use.value.name} is missing")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Quantize tensor by tensor, in the order of `uses`."""
        by_name: dict[str, list[Use]] = defaultdict(list)
        for use in self.uses:
            by_name[str(use.value.name)].append(use)
        for name, uses in by_name.items():
            _put_pairs(graph.graph, name, uses, self.scales[name], self.real)
        return self.result(by_name)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check (1) and (2) on every edge."""
        for use in self.uses:
            edge = f"the edge from {use.value.name} to {use.consumer.name}"
            dequantize = dequantizer(use.consumer, use.index)
            if dequantize is None:
                raise InvariantError(f"{edge} has no DequantizeLinear")
            if len(dequantize.outputs[0].uses()) > 1:
                raise InvariantError(f"{edge} shares a DequantizeLinear with another")
            scale = dequantize.inputs[1]
            if scale is None or scale.shape is None or len(scale.shape):
                raise InvariantError(f"{edge} has a scale that is no scalar")


def _put_pairs(graph: ir.Graph, name: str, uses: list[Use], scale: ActivationScale, real: np.dtype) -> None:
    """Put one QuantizeLinear behind a tensor, and a DequantizeLinear before each reader."""
    value = uses[0].consumer.inputs[uses[0].index]
    assert value is not None
    parameters = [
        initializer(graph, f"{name}.scale", np.asarray(scale.scale, real)),
        initializer(graph, f"{name}.zero_point", np.asarray(scale.zero_point)),
    ]
    quantize = ir.node("QuantizeLinear", [value, *parameters], name=f"{name}.quantize")
    codes = quantize.outputs[0]
    codes.name = f"{name}.codes"
    producer = value.producer()
    if producer is None:
        graph.insert_before(next(iter(graph)), quantize)
    else:
        graph.insert_after(producer, quantize)
    for number, use in enumerate(uses):
        dequantize = ir.node("DequantizeLinear", [codes, *parameters], name=f"{name}.dequantize{number}")
        dequantize.outputs[0].name = f"{name}.dequantized{number}"
        graph.insert_before(use.consumer, dequantize)
        use.consumer.replace_input_with(use.index, dequantize.outputs[0])
