"""Centre and scale each channel of a stream, so that one INT8 scale for all channels serves each well.

An INT8 tensor has one scale for all its channels, and a stream has no BN that could bring its channels to
one size. But each channel of a stream may be scaled and, where a BN reads the stream, shifted without
changing the network (see `graphs.streams`). With the least and greatest value l_c and h_c of x_l in
channel c over the calibration images,

    centre     d_lc = -(l_c + h_c) / 2                              for every x_l that a BN reads
    equalize   s_c  = 1 / max over l of max(|l_c + d|, |h_c + d|)   up to a common factor

every channel then uses the whole range of the codes. The maximum is also taken over what is added into
x_l, because these tensors are quantized too: a channel that a ReLU nearly always sets to zero looks small
behind the ReLU and may be the largest one before it. No weight loses precision, because convolutions
write the stream and their weights have one scale for each output channel.

Precondition of both passes: a float32 graph, not quantized, that is a chain of residual blocks, and the
extremes of every stream.
Postcondition of `centre`: exactly the values that no BN alone reads were refused. Of `equalize`: each
stream was scaled or refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import InvariantError

from graphs.conditions import require_float32
from graphs.evaluation import Extremes
from graphs.passes import GraphPass, PassResult
from graphs.streams import Stream, streams_of

# A channel that reaches less than 1/1024 as far as the largest is scaled by 1024 and no more, because a
# larger factor would stretch noise. A channel that was always zero keeps its scale, because other images
# may wake the channel up.
_LEAST_SHARE = 2**-10


@dataclass(frozen=True)
class CentreStream(GraphPass):
    """Shift each x_l that a BN alone reads; the result names the values.

    Attributes:
        extremes: of every value of every stream, by name.
    """

    name = "centre"
    extremes: Mapping[str, Extremes]

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph and the extremes of all streams."""
        require_float32(graph)
        _require_extremes(self.extremes, (value for stream in streams_of(graph) for value in stream.values))

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Shift stream by stream."""
        centred, refused = [], {}
        for stream in streams_of(graph):
            shifts = []
            for index, value in enumerate(stream.values):
                name = str(value.name)
                if stream.batchnorm(index):
                    shifts.append(-np.add(*self.extremes[name], dtype=np.float64) / 2)
                    centred.append(name)
                else:
                    refused[name] = "no BN alone reads this value, so a shift would not be exact"
                    shifts.append(np.zeros(stream.channels))
            stream.shift(graph.graph, shifts)
        return self.result(centred, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that the values that a BN alone reads were shifted, and no others."""
        for stream in streams_of(graph):
            for index, value in enumerate(stream.values):
                read_by_bn, shifted = stream.batchnorm(index) is not None, value.name in result.changed
                if read_by_bn and not shifted:
                    raise InvariantError(f"{value.name} was not shifted, though a BN alone reads this value")
                if shifted and not read_by_bn:
                    raise InvariantError(f"{value.name} was shifted, though no BN alone reads this value")


@dataclass(frozen=True)
class EqualizeStream(GraphPass):
    """Scale the channels of every stream; the result names the values of the streams.

    Attributes:
        extremes: of everything in `Stream.scaled`, by name.
    """

    name = "equalize"
    extremes: Mapping[str, Extremes]

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph and the extremes of all streams and of what is added into them."""
        require_float32(graph)
        _require_extremes(self.extremes, (value for stream in streams_of(graph) for value in stream.scaled))

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Scale stream by stream."""
        scaled: list[str] = []
        refused = {}
        for stream in streams_of(graph):
            names = [str(value.name) for value in stream.values]
            reach = _reach(stream, self.extremes)
            largest = reach.max()
            if largest > 0:
                factors = largest / np.maximum(reach, largest * _LEAST_SHARE)
                stream.scale(np.where(reach > 0, factors, 1))
                scaled += names
            else:
                refused[names[0]] = "the stream that begins here is always zero"
        return self.result(scaled, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that every stream was scaled or refused."""
        for stream in streams_of(graph):
            first = stream.values[0].name
            if first not in result.changed and first not in result.refused:
                raise InvariantError(f"the stream that begins at {first} was neither scaled nor refused")


def _require_extremes(extremes: Mapping[str, Extremes], values: Iterable[ir.Value]) -> None:
    for value in values:
        if value.name not in extremes:
            raise InvariantError(f"the extremes of {value.name} are missing")


def _reach(stream: Stream, extremes: Mapping[str, Extremes]) -> NDArray[np.float64]:
    """Return the greatest magnitude of each channel of a stream and of what is added into the stream."""
    both = np.abs([extremes[str(value.name)] for value in stream.scaled])
    return both.max((0, 1)).astype(np.float64)
