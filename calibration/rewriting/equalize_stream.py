"""Per-channel scaling and centring of the stream, so that one scale for all channels serves each well.

An INT8 tensor has one scale for all its channels, and a stream cannot have a BN of its own. But (see
`streams`) each channel of a stream may be scaled and, where BN reads it, shifted without changing the
network. With the least and greatest value l_c and h_c of x_l in channel c over the calibration images,

    centre   d_lc = -(l_c + h_c) / 2                              for every x_l that a BN reads
    scale    s_c  = 1 / max over l of max(|l_c + d|, |h_c + d|)   up to a common factor

every channel then uses the whole range of the codes. The maximum is also taken over what is added into
x_l: a channel that a ReLU nearly always stops looks small behind it and may be the largest before it,
where it is quantized too. Convolutions write the stream, and their weights
have a scale for each output channel, so no weight loses precision by it.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.evaluation import Extremes
from graphs.streams import Stream, streams_of

# A channel that is nearly always zero is left small: its factor would be noise. One that never was
# anything else keeps its scale: other images may wake it.
_LEAST_SHARE = 2**-10


def centre_stream(model: ir.Model, extremes: Mapping[str, Extremes]) -> dict[str, str]:
    """Shift each x_l that BN alone reads, in place.

    Args:
        extremes: of every value of every stream, by name.

    Returns:
        names of the values that are left as they are, each with the reason.
    """
    refused = {}
    for stream in streams_of(model):
        shifts = []
        for index, value in enumerate(stream.values):
            name = str(value.name)
            if stream.batchnorm(index):
                shifts.append(-np.add(*extremes[name], dtype=np.float64) / 2)
            else:
                refused[name] = "no BN alone reads it, so a shift would not be exact"
                shifts.append(np.zeros(stream.channels))
        stream.shift(model.graph, shifts)
    return refused


def equalize_stream(model: ir.Model, extremes: Mapping[str, Extremes]) -> dict[str, str]:
    """Scale the channels of every stream in place.

    Args:
        extremes: of everything `Stream.scaled`, by name.

    Returns:
        as `centre_stream`.
    """
    refused = {}
    for stream in streams_of(model):
        reach = _reach(stream, extremes)
        largest = reach.max()
        if largest > 0:
            factors = largest / np.maximum(reach, largest * _LEAST_SHARE)
            stream.scale(np.where(reach > 0, factors, 1))
        else:
            refused[str(stream.values[0].name)] = "the stream it begins is always zero"
    return refused


def _reach(stream: Stream, extremes: Mapping[str, Extremes]) -> NDArray[np.float64]:
    """Greatest magnitude of each channel of a stream and of what is added into it."""
    both = np.abs([extremes[str(value.name)] for value in stream.scaled])
    return both.max((0, 1)).astype(np.float64)
