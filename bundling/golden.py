"""Choose the golden pictures, and compute what each artifact gives for them.

A picture is chosen only if all artifacts give it the same label, by a margin that the noise which artifacts
are allowed elsewhere will not turn. Let r be the root of the mean square of an artifact's logits and s its
limit in dB. Noise at the limit has the standard deviation

    sigma = r * 10^(-s / 20)

in each logit and sqrt(2) sigma in the difference of two. The margin between the largest and the second
largest logit has to be six times that. Of the pictures that are left, each size in `SIZES` gets as many, and
labels that were chosen less often go first, then larger margins. Of an artifact that gives probabilities the
same holds with probabilities in the place of logits.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundling.golden_pictures import SIZES, GoldenPicture, Pixels
from data.dataset import normalised
from errors import CheckFailed
from graphs.card import Batch, GraphCard
from runtimes.runtime import Runtime, infer_in_batches

COUNT = 32
_DEVIATIONS = 6


@dataclass(frozen=True)
class Golden:
    """The golden pictures.

    Attributes:
        pictures: the PNG files.
        fitted: uint8 [N, 32, 32, 3].
        images: what the network takes: float32 [N, 3, 32, 32].
        labels: the answer of every artifact.
        logits: what each artifact gives, float32 [N, classes], by its id: logits, or probabilities.
    """

    pictures: tuple[bytes, ...]
    fitted: Pixels
    images: Batch
    labels: tuple[int, ...]
    logits: Mapping[str, Batch]


def golden_from_runtimes(
    pool: list[GoldenPicture], runtimes: Mapping[str, Runtime], limits: Mapping[str, float], card: GraphCard
) -> Golden:
    """Choose up to 32 pictures of a pool and run every artifact on them in one batch.

    Args:
        runtimes: the open artifacts, by their ids.
        limits: how near to its logits each artifact has to come elsewhere, in dB, by the same ids.
        card: of any of the artifacts; they are the same network.

    Raises:
        CheckFailed: the artifacts agree on no picture by a sufficient margin.
    """
    fitted = np.stack([picture.fitted for picture in pool])
    images = normalised(fitted, card.mean, card.std)
    pixels = np.ascontiguousarray(fitted.transpose(0, 2, 3, 1))
    outputs = [outputs_of(runtime, pixels, images) for runtime in runtimes.values()]
    # The logits of random weights hardly differ between classes, and noise turns their labels.
    deviations = [_deviation(logits, limit) for logits, limit in zip(outputs, limits.values(), strict=True)]
    least = [_DEVIATIONS * math.sqrt(2) * deviation * card.trained for deviation in deviations]
    chosen = chosen_pictures(outputs, least, [picture.form for picture in pool])
    if not chosen:
        raise CheckFailed(
            f"of {len(pool)} pictures there is none on which all artifacts agree by a sufficient margin",
            "train longer, or choose fewer artifacts with --engine and --precision",
        )
    logits = {name: outputs_of(runtime, pixels[chosen], images[chosen]) for name, runtime in runtimes.items()}
    return Golden(
        pictures=tuple(pool[index].png for index in chosen),
        fitted=pixels[chosen],
        images=images[chosen],
        labels=tuple(int(label) for label in outputs[0][chosen].argmax(1)),
        logits=logits,
    )


def chosen_pictures(outputs: list[Batch], least: list[float], forms: list[int]) -> list[int]:
    """Choose up to 32 pictures; see the module's docstring.

    Args:
        outputs: the logits [N, classes] of each artifact.
        least: the least margin of each artifact.
        forms: which of `SIZES` each picture has.

    Returns:
        the indices, in turns through the sizes.
    """
    labels, margins = _labels_and_margins(outputs, least)
    times: Counter[int] = Counter()
    chosen: list[int] = []
    for turn in range(COUNT):
        form = turn % len(SIZES)
        left = [
            index
            for index in range(len(labels))
            if forms[index] == form and margins[index] > 0 and index not in chosen
        ]
        if left:
            chosen.append(min(left, key=lambda index: (times[labels[index]], -margins[index])))
            times[labels[chosen[-1]]] += 1
    return chosen


def _labels_and_margins(outputs: list[Batch], least: list[float]) -> tuple[list[int], NDArray[np.float64]]:
    """Return the labels, and by how much the margin of each picture exceeds what is needed, at the least.

    Where artifacts give different labels the margin is -inf.
    """
    labels = [logits.argmax(1) for logits in outputs]
    excess = []
    for logits, needed in zip(outputs, least, strict=True):
        second, first = np.sort(logits.astype(np.float64), 1)[:, -2:].T
        excess.append(first - second - needed)
    agreed = np.all([other == labels[0] for other in labels], axis=0)
    return labels[0].tolist(), np.where(agreed, np.min(excess, axis=0), -np.inf)


def outputs_of(runtime: Runtime, pixels: Pixels, images: Batch) -> Batch:
    """Return what an artifact gives for pictures, in batches of 32 or of the artifact's fixed size.

    Args:
        pixels: the pictures as uint8 [N, 32, 32, 3].
        images: the same pictures normalised, float32 [N, 3, 32, 32].
    """
    given = pixels if runtime.card.takes_pixels else images
    size = runtime.card.batch or min(COUNT, len(given))
    return infer_in_batches(
        runtime, (given[start : start + size] for start in range(0, len(given), size)), size
    )


def _deviation(logits: Batch, limit: float) -> float:
    """Return the standard deviation of noise that is `limit` dB below some logits."""
    return float(np.sqrt(np.square(logits, dtype=np.float64).mean())) * 10 ** (-limit / 20)
