"""How many times as fast one runtime is as another, with an interval that says how sure that is.

The ratio is median(reference) / median(engine) over all timed calls. Its interval is a bootstrap over the
rounds of turns. A resample draws rounds with replacement, the same rounds for every runtime, since the
machine had one speed while they took their turns; drawing calls would treat the thousands of calls of a slow
second as so many independent witnesses.

A resample draws n - 1 of n rounds. The variance of n drawn ones would be too small by the factor (n - 1) / n
(Rao and Wu 1988, "Resampling inference with complex survey data"), which is a tenth with the 10 rounds here.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtimes.timing import Rounds

RESAMPLES = 1000
_SEED = 0
_LIMITS = (2.5, 97.5)


@dataclass(frozen=True)
class Ratio:
    """`value` times as fast, and the limits of the 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> list[float]:
        """The limits as a list, for JSON."""
        return [self.low, self.high]


# Each engine is compared with two others, and a search for the medians of thousands of calls takes a while.
@lru_cache(maxsize=256)
def resampled_medians(rounds: Rounds) -> NDArray[np.float64]:
    """The median duration of a call, in seconds, in each of `RESAMPLES` resamples of the rounds.

    The draws are the same for any two runtimes that have the same number of rounds, and in every call.
    """
    count = len(rounds.seconds)
    draws = np.random.default_rng(_SEED).integers(0, count, (RESAMPLES, max(count - 1, 1)))
    turns = [np.asarray(turn) for turn in rounds.seconds]
    return np.array([np.median(np.concatenate([turns[index] for index in drawn])) for drawn in draws])


def ratio_of(reference: Rounds, engine: Rounds) -> Ratio:
    """How many times as fast `engine` is as `reference`, which was timed in turns with it.

    Raises:
        ValueError: the two had different numbers of rounds, so that they were not timed in turns.
    """
    if len(reference.seconds) != len(engine.seconds):
        raise ValueError(f"{len(reference.seconds)} rounds are not in turns with {len(engine.seconds)}")
    ratios = resampled_medians(reference) / resampled_medians(engine)
    low, high = (float(limit) for limit in np.percentile(ratios, _LIMITS))
    return Ratio(reference.latency.p50_ms / engine.latency.p50_ms, low, high)
