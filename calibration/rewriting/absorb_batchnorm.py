"""Absorb the BN that reads a pre-activation stream, so that Conv, Relu and Add are all that is left.

With BN(x) = a x + c per channel and a > 0,

    relu(a x + c) = a relu(x + c / a)

so the stream carries y = x + c / a (a shift, see `streams`), the BN is gone, and a goes into the
weights behind the ReLU; zero padding stays exact, since the ReLU's zero is still zero. It is exact but
for rounding. A BN is kept where

    (1) a ReLU is not its only reader
    (2) some a <= 0: no positive factor can be taken out of the ReLU
    (3) some |beta / gamma| > `LIMIT`, a shift by so many of the channel's standard deviations: it would
        fill the range of an INT8 stream, and without bound as gamma goes to 0
"""

import numpy as np
import onnx_ir as ir

from calibration.rewriting.bn_as_convolution import slope_and_offset
from graphs.onnx_file import constant, remove_unread
from graphs.streams import Stream, divide_input, streams_of

# Networks trained here stay below 2.
LIMIT = 8.0


def absorb_batchnorm(model: ir.Model) -> dict[str, str]:
    """Absorb in place.

    Returns:
        names of the BN that are kept, each with the reason.
    """
    kept: dict[str, str] = {}
    for stream in streams_of(model):
        kept |= _absorb(model.graph, stream)
    return kept


def _absorb(graph: ir.Graph, stream: Stream) -> dict[str, str]:
    kept, shifts, absorbed = {}, [], []
    shift = np.zeros(stream.channels)
    for index in range(len(stream.values)):
        bn = stream.batchnorm(index)
        if bn is None:
            shift = np.zeros(stream.channels)
        elif reason := _refusal(bn):
            # It takes the shift of the block before, and no step is needed between the two.
            kept[str(bn.name)] = reason
        else:
            slope, offset = slope_and_offset(bn)
            shift = offset / slope
            absorbed.append(bn)
        shifts.append(shift)
    stream.shift(graph, shifts)
    for bn in absorbed:
        _remove(graph, bn)
    return kept


def _refusal(bn: ir.Node) -> str | None:
    gamma, beta = constant(bn.inputs[1]), constant(bn.inputs[2])
    if [node.op_type for node, _ in bn.outputs[0].uses()] != ["Relu"]:
        return "a Relu is not its only reader"
    if negative := int((gamma <= 0).sum()):
        return f"gamma is not positive in {negative} of {len(gamma)} channels"
    if (far := float(np.abs(beta / gamma).max())) > LIMIT:
        return f"it would shift the stream by {far:.1f} standard deviations, over {LIMIT:g}"
    return None


def _remove(graph: ir.Graph, bn: ir.Node) -> None:
    """Drop a BN whose offset is 0, its slope going into what reads it."""
    slope, _ = slope_and_offset(bn)
    for node, _ in bn.outputs[0].uses():
        divide_input(node, 1 / slope)
    stream, *parameters = bn.inputs
    assert stream is not None
    ir.convenience.replace_all_uses_with(bn.outputs[0], stream)
    graph.remove(bn, safe=True)
    remove_unread(graph, parameters)
