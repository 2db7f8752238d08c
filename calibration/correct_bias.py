"""Correct a bias for what rounding the weights does to the mean of a convolution's output.

With W + D the weights that the codes stand for and m_c the mean of the input in channel c over the
calibration images,

    E[(W + D) * x]_o - E[W * x]_o = sum over c and k of D_ock m_c

apart from zero-padded borders, and subtracting it from the bias leaves only the part of the error that
varies from image to image and place to place (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2, there with the mean taken from BN statistics). Inputs
behind a ReLU have means as large as their deviations, so this is up to half of the error's power.
"""

import numpy as np
from numpy.typing import NDArray


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
