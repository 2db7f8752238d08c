"""Probabilities, and what they tell of the logits that they were computed from.

    softmax       p_k = exp(z_k) / sum_j exp(z_j)
    logarithms    log p_k = z_k - log sum_j exp(z_j)

Softmax forgets what all logits of an image have in common, and nothing else. So logits from which the mean
of each image is subtracted can be had from logits and from probabilities alike, and an artifact that gives
probabilities is compared with the original there, by the same figures and limits as one that gives logits.
Without the mean the signal is smaller, so that the signal to noise of the same errors is not flattered.
"""

import numpy as np
from numpy.typing import NDArray

from graphs.card import Batch

# exp(-80) is 2e-35. Probabilities below 1e-38 have fewer digits in float32 or are 0, and tell nothing.
_LEAST = np.exp(-80.0)


def probabilities(logits: Batch) -> NDArray[np.float64]:
    """Return the softmax of logits [N, classes], in float64 and without overflow; rows sum to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def centred_logits(shares: NDArray[np.floating]) -> Batch:
    """Return the logits float32 [N, classes], with a mean of 0 for each image, of probabilities [N, classes].

    Probabilities below exp(-80) are taken for exp(-80).
    """
    logarithms = np.log(np.maximum(shares.astype(np.float64), _LEAST))
    return (logarithms - logarithms.mean(1, keepdims=True)).astype(np.float32)
