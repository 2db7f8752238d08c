"""Absorb the BN that reads a pre-activation stream, so that Conv, Relu and Add are all that is left.

With BN(x) = a x + c per channel and a > 0,

    relu(a x + c) = a relu(x + c / a)

so the stream carries y = x + c / a (a shift, see `graphs.streams`), the BN is gone, and a goes into the
weights behind the ReLU. Zero padding stays right, because the ReLU turns a zero into a zero with a and
without. Only rounding changes the logits. The pass refuses a BN

    (1) whose output something else than one ReLU reads
    (2) with some a <= 0: no positive factor can be taken out of the ReLU
    (3) with some |beta / gamma| > `LIMIT`, a shift by so many standard deviations of the channel: such a
        shift would fill the range of an INT8 stream, and the shift grows without bound as gamma goes to 0

Precondition: a float32 graph, not quantized, that is a chain of residual blocks.
Postcondition: no BN that alone reads a value of a stream, and that a ReLU alone reads, is left but those
refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from calibration.rewriting.bn_as_convolution import slope_and_offset
from graphs.conditions import require_float32
from graphs.onnx_file import constant, remove_unread
from graphs.passes import GraphPass, PassResult
from graphs.streams import Stream, divide_input, streams_of

# The limit counts standard deviations; the BN of the networks trained here shift by less than 2.
LIMIT = 8.0


@dataclass(frozen=True)
class AbsorbBatchnorm(GraphPass):
    """Absorb every BN that reads a stream; the result names the BN."""

    name = "absorb"

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph; `streams_of` then refuses what is no chain of residual blocks."""
        require_float32(graph)

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Absorb stream by stream."""
        absorbed: list[str] = []
        refused: dict[str, str] = {}
        for stream in streams_of(graph):
            reasons = _refusals(stream)
            absorbed += _absorb(graph.graph, stream, reasons)
            refused |= reasons
        return self.result(absorbed, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that no BN between a stream and a ReLU is left but those refused."""
        for stream in streams_of(graph):
            for bn in _batchnorms(stream):
                if _read_by_relu_alone(bn) and bn.name not in result.refused:
                    raise InvariantError(f"BatchNormalization {bn.name} still reads the stream")


def _batchnorms(stream: Stream) -> list[ir.Node]:
    """Return the BN that alone read a value of the stream, in order of execution."""
    readers = (stream.batchnorm(index) for index in range(len(stream.values)))
    return [bn for bn in readers if bn is not None]


def _refusals(stream: Stream) -> dict[str, str]:
    """Return the names of the BN of a stream that cannot be absorbed, each with the reason."""
    reasons = {str(bn.name): _refusal(bn) for bn in _batchnorms(stream)}
    return {name: reason for name, reason in reasons.items() if reason}


def _refusal(bn: ir.Node) -> str:
    """Return why a BN cannot be absorbed, or nothing if the BN can."""
    gamma, beta = constant(bn.inputs[1]), constant(bn.inputs[2])
    if not _read_by_relu_alone(bn):
        return "a Relu is not the only reader of this BN"
    if negative := int((gamma <= 0).sum()):
        return f"gamma is not positive in {negative} of {len(gamma)} channels"
    if (far := float(np.abs(beta / gamma).max())) > LIMIT:
        return f"absorbing this BN would shift the stream by {far:.1f} standard deviations, over {LIMIT:g}"
    return ""


def _read_by_relu_alone(bn: ir.Node) -> bool:
    return [node.op_type for node, _ in bn.outputs[0].uses()] == ["Relu"]


def _absorb(graph: ir.Graph, stream: Stream, refused: Mapping[str, str]) -> list[str]:
    """Absorb the other BN of a stream and return their names."""
    shifts, absorbed = [], []
    shift = np.zeros(stream.channels)
    for index in range(len(stream.values)):
        bn = stream.batchnorm(index)
        if bn is None:
            shift = np.zeros(stream.channels)
        elif bn.name not in refused:
            slope, offset = slope_and_offset(bn)
            shift = offset / slope
            absorbed.append(bn)
        # A refused BN takes the shift of the block before into its mean, because the stream then needs no
        # step between the two blocks.
        shifts.append(shift)
    stream.shift(graph, shifts)
    for bn in absorbed:
        _remove(graph, bn)
    return [str(bn.name) for bn in absorbed]


def _remove(graph: ir.Graph, bn: ir.Node) -> None:
    """Drop a BN whose offset the stream carries; the slope goes into the weights behind the BN."""
    slope, _ = slope_and_offset(bn)
    for node, _ in bn.outputs[0].uses():
        divide_input(node, 1 / slope)
    stream, *parameters = bn.inputs
    assert stream is not None
    ir.convenience.replace_all_uses_with(bn.outputs[0], stream)
    graph.remove(bn, safe=True)
    remove_unread(graph, parameters)
