"""The signal-to-noise ratio of a tensor against the original, summed over any number of batches.

With y the original tensor and z the judged one, the ratio in dB is

    10 log10( sum y^2 / sum (y - z)^2 )
"""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Noise:
    """The sums of both squares, in float64; the memory does not grow with the number of batches."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0

    def update(self, original: NDArray[np.floating], judged: NDArray[np.floating]) -> Self:
        """Add a batch to the sums.

        Raises:
            ValueError: the shapes differ, or a value is not finite.
        """
        if original.shape != judged.shape:
            raise ValueError(f"the shapes {original.shape} and {judged.shape} do not match")
        exact = original.astype(np.float64)
        signal, noise = float(np.square(exact).sum()), float(np.square(exact - judged).sum())
        if not (math.isfinite(signal) and math.isfinite(noise)):
            raise ValueError("values that are not finite cannot be compared")
        self._signal += signal
        self._noise += noise
        return self

    @property
    def snr_db(self) -> float:
        """The ratio in dB: inf if no value differs, -inf if the original is zero and a value differs."""
        if self._noise == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf
