"""Compare an engine's logits with the PyTorch original's, in figures.

signal to noise    in dB, see `graphs.signal_to_noise`
agreement          share of images with the same top-1 class, in %
accuracy           share of images whose top-1 class is the label, in %
drop               accuracy of the original minus accuracy of the engine, in points
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.dataset import Dataset, Images, Labels, Split
from graphs.card import Batch, GraphCard, Pixels
from graphs.signal_to_noise import Noise
from progress import Progress, silent
from runtimes.runtime import Runtime, infer_in_batches
from verification.probabilities import centred_logits, probabilities

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


def compare_with(original: Batch, card: GraphCard, output: Batch, labels: Labels) -> Comparison:
    """Compare the original's logits with what an artifact gives, be it logits or probabilities.

    Probabilities are compared as `verification.probabilities` says.

    Args:
        original: logits [N, classes].
        card: the card of the artifact.
        output: what the artifact gave for the same images, [N, classes].
    """
    if card.takes_pixels:
        original, output = centred_logits(probabilities(original)), centred_logits(output)
    return compare(original, output, labels)


def logits_of_split(
    runtime: Runtime, dataset: Dataset, split: Split, description: str, progress: Progress = silent
) -> Batch:
    """Logits, or probabilities, float32 [N, classes] of a whole split, in batches of one size."""
    size = runtime.card.batch or BATCH
    starts = range(0, len(split), size)
    batches = (
        _as_taken(runtime, dataset, split.images[start : start + size])
        for start in progress(starts, description, len(starts))
    )
    return infer_in_batches(runtime, batches, size)


def _as_taken(runtime: Runtime, dataset: Dataset, images: Images) -> Batch | Pixels:
    """Return images uint8 [N, C, 32, 32] as the artifact takes them: normalised, or as pixels."""
    return images.transpose(0, 2, 3, 1) if runtime.card.takes_pixels else dataset.normalised(images)


def _percent(hits: NDArray[np.bool_]) -> float:
    return 100 * float(hits.mean())
