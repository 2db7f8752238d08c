"""Correct a bias for what rounding the weights does to the mean of a convolution's output.

With W + D the weights that the codes stand for and m_c the mean of the input in channel c over the
calibration images,

    E[(W + D) * x]_o - E[W * x]_o = sum over c and k of D_ock m_c

apart from zero-padded borders, and subtracting it from the bias leaves only the part of the error that
varies from image to image and place to place (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2, there with the mean taken from BN statistics). Inputs
behind a ReLU have means as large as their deviations, so this is up to half of the error's power.

Through BN: of convolutions that write a stream which only BN reads, the error may as well be left in the
stream and taken out where it is read. It adds up from block to block, so BN's mean in block l grows by
the sum of the errors of all that was written before. That leaves those convolutions without a bias.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.onnx_file import add_to_bias, constant, replace_constant
from graphs.streams import Stream, streams_of


def mean_error(
    weight: NDArray[np.float32], rounded: NDArray[np.float64], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean error [out] of a convolution's output from rounding its weights.

    Args:
        weight, rounded: [out, in / groups, kh, kw], what they were and what the codes stand for.
        means: of the input, per channel [in].
    """
    per_input = (rounded - weight).sum((2, 3))
    out, width = per_input.shape
    groups = len(means) // width
    # Output channel o belongs to group o // (out / groups) and reads that group's input channels.
    own = means.reshape(groups, width).repeat(out // groups, axis=0)
    return (per_input * own).sum(1)


class BiasCorrection:
    """Takes mean errors out of a graph in place.

    Args:
        model: before any Q/DQ pair is in it.
        through_batchnorm: leave no bias where a BN can take it.
    """

    def __init__(self, model: ir.Model, through_batchnorm: bool) -> None:
        self._graph = model.graph
        streams = streams_of(model) if through_batchnorm else []
        self._streams = [stream for stream in streams if _read_by_batchnorm_alone(stream)]
        self._readers = [
            [stream.batchnorm(index) for index in range(len(stream.values))] for stream in self._streams
        ]
        self._written = {
            conv: (number, index)
            for number, stream in enumerate(self._streams)
            for index, writers in enumerate(stream.writers)
            for conv in writers
        }
        self._errors = [np.zeros((len(stream.values), stream.channels)) for stream in self._streams]

    def subtract(self, conv: ir.Node, error: NDArray[np.float64], real: np.dtype) -> None:
        """Correct one convolution's output by an error [out]; a bias it does not have is of type `real`."""
        if conv in self._written:
            number, index = self._written[conv]
            self._errors[number][index] += error
        else:
            add_to_bias(self._graph, conv, -error, real)

    def finish(self) -> None:
        """Correct each BN for what the convolutions before it left in the stream."""
        for readers, errors in zip(self._readers, self._errors, strict=True):
            for bn, error in zip(readers, errors.cumsum(0), strict=True):
                assert bn is not None
                replace_constant(bn.inputs[3], constant(bn.inputs[3]) + error)


def _read_by_batchnorm_alone(stream: Stream) -> bool:
    return all(stream.batchnorm(index) is not None for index in range(len(stream.values)))
