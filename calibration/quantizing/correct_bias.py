"""The corrections of biases for what rounding the weights does to the means of convolutions' outputs.

With W + D the weights that the codes stand for and m_c the mean of the input in channel c over the
calibration images,

    E[(W + D) * x]_o - E[W * x]_o = sum over c and k of D_ock m_c

apart from zero-padded borders. Taking this out of the bias leaves only the part of the error that varies
from image to image and place to place (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2, there with the mean taken from BN statistics). Inputs
behind a ReLU have means as large as their deviations, so that the correction removes up to half of the
error's power.

Through BN: the error of a convolution that writes a stream which only BN reads may as well stay in the
stream and be taken out where the stream is read. The errors add up from block to block, so that the mean
of the BN in block l grows by the sum of the errors of all that was written before. Those convolutions then
need no bias.

This file only computes; `calibration.quantizing.weights` changes the graph, because a corrected bias stands
beside the codes of its weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.streams import Stream, streams_of


@dataclass(frozen=True)
class Corrections:
    """The corrections are added to parameters of nodes, by the names of the nodes.

    Attributes:
        biases: of convolutions, each [out].
        means: of BN, each [channels].
    """

    biases: Mapping[str, NDArray[np.float64]]
    means: Mapping[str, NDArray[np.float64]]


def mean_error(
    weight: NDArray[np.float32], rounded: NDArray[np.float64], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean error [out] that rounding the weights brings to a convolution's output.

    Args:
        weight, rounded: [out, in / groups, kh, kw], what they were and what the codes stand for.
        means: of the input, per channel [in].
    """
    per_input = (rounded - weight).sum((2, 3))
    out, width = per_input.shape
    groups = len(means) // width
    # Output channel o belongs to group o // (out / groups) and reads that group's input channels.
    means_read = means.reshape(groups, width).repeat(out // groups, axis=0)
    return (per_input * means_read).sum(1)


def corrections_of(
    model: ir.Model, errors: Mapping[str, NDArray[np.float64]], through_batchnorm: bool
) -> Corrections:
    """Return the corrections for every convolution whose weights were rounded.

    Args:
        model: a float graph, with the streams that Q/DQ pairs would hide.
        errors: mean error [out] of each convolution, by name.
        through_batchnorm: leave no bias where a BN can take the correction.
    """
    streams = (
        [stream for stream in streams_of(model) if _read_by_batchnorm_alone(stream)]
        if through_batchnorm
        else []
    )
    means: dict[str, NDArray[np.float64]] = {}
    for stream in streams:
        means |= _means_of(stream, errors)
    in_streams = {conv.name for stream in streams for writers in stream.writers for conv in writers}
    return Corrections({name: -error for name, error in errors.items() if name not in in_streams}, means)


def _read_by_batchnorm_alone(stream: Stream) -> bool:
    return all(stream.batchnorm(index) is not None for index in range(len(stream.values)))


def _means_of(stream: Stream, errors: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return what the mean of each BN of a stream grows by: the errors of all writers before the BN."""
    total = np.zeros(stream.channels)
    means = {}
    for index, writers in enumerate(stream.writers):
        written = np.zeros(stream.channels)
        for conv in writers:
            written += errors.get(str(conv.name), 0)
        total = total + written
        bn = stream.batchnorm(index)
        assert bn is not None
        means[str(bn.name)] = total
    return means
