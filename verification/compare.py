"""Compare an engine's logits with the PyTorch original's, in figures.

signal to noise    in dB, see `graphs.signal_to_noise`
agreement          share of images with the same top-1 class, in %
accuracy           share of images whose top-1 class is the label, in %
drop               accuracy of the original minus accuracy of the engine, in points
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.dataset import Dataset, Labels, Split
from graphs.card import Batch
from graphs.signal_to_noise import Noise
from progress import Progress, silent
from runtimes.runtime import Runtime, infer_in_batches

BATCH = 100


@dataclass(frozen=True)
class Comparison:
    """Figures of one engine over `images` images; `snr_db` is inf where the logits are equal."""

    images: int
    snr_db: float
    max_error: float
    agreement: float
    accuracy: float
    drop: float


def compare(original: Batch, engine: Batch, labels: Labels) -> Comparison:
    """Compare logits [N, classes] of the same images.

    Raises:
        ValueError: nothing to compare, shapes that differ, or values that are not finite.
    """
    if not len(original):
        raise ValueError("comparing nothing proves nothing")
    if original.shape != engine.shape or len(labels) != len(original):
        raise ValueError(f"shapes {original.shape}, {engine.shape} and {labels.shape} do not match")
    if not (np.isfinite(original).all() and np.isfinite(engine).all()):
        raise ValueError("logits that are not finite cannot be compared")
    accuracy = _percent(engine.argmax(1) == labels)
    return Comparison(
        images=len(original),
        snr_db=Noise().update(original, engine).snr_db,
        max_error=float(np.abs(original.astype(np.float64) - engine).max()),
        agreement=_percent(original.argmax(1) == engine.argmax(1)),
        accuracy=accuracy,
        drop=_percent(original.argmax(1) == labels) - accuracy,
    )


def logits_of_split(
    runtime: Runtime, dataset: Dataset, split: Split, description: str, progress: Progress = silent
) -> Batch:
    """Logits float32 [N, classes] of a whole split, in batches of one size."""
    starts = range(0, len(split), BATCH)
    batches = (
        dataset.normalised(split.images[start : start + BATCH])
        for start in progress(starts, description, len(starts))
    )
    return infer_in_batches(runtime, batches, BATCH)


def _percent(hits: NDArray[np.bool_]) -> float:
    return 100 * float(hits.mean())
