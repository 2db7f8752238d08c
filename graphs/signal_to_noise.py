"""Signal to noise of a tensor against its original, over any number of batches.

10 log10( sum y^2 / sum (y - z)^2 )   in dB, y the original, z what is judged
"""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Noise:
    """Sums over batches in float64; memory is constant."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0

    def update(self, original: NDArray[np.floating], judged: NDArray[np.floating]) -> Self:
        """Count a batch; ValueError if the shapes differ or a value is not finite."""
        if original.shape != judged.shape:
            raise ValueError(f"shapes {original.shape} and {judged.shape} do not match")
        exact = original.astype(np.float64)
        signal, noise = float(np.square(exact).sum()), float(np.square(exact - judged).sum())
        if not (math.isfinite(signal) and math.isfinite(noise)):
            raise ValueError("values that are not finite cannot be compared")
        self._signal += signal
        self._noise += noise
        return self

    @property
    def snr_db(self) -> float:
        """Infinite where nothing differs, -inf where an original of zeros does."""
        if self._noise == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf
