"""Pictures to classes with an artifact of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes.engines import ENGINES
from vocabulary import Precision
from workflow.choice import Session
from workflow.measure import subjects_of
from workflow.options import DeviceOptions, OneSubjectOptions, RuntimeOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtimes.subjects import Subject

DEFAULT_ENGINE = "ort"


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one picture with their probabilities, the likeliest first."""

    image: Path
    classes: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one artifact."""

    subject: "Subject"
    images: tuple[Prediction, ...]


def predictions_from_pictures(
    session: Session,
    images: Sequence[Path],
    top: int,
    options: OneSubjectOptions = OneSubjectOptions(),
    device: DeviceOptions = DeviceOptions(),
    runtime: RuntimeOptions = RuntimeOptions(),
) -> Predictions:
    """Classify picture files; pictures of other sizes than the network's are cut to a square and resized.

    Args:
        top: how many classes of each picture.

    Raises:
        UserError: a file that is no picture, or an engine that does not run here.
    """
    from data.dataset import normalised
    from data.images import images_from_files
    from runtimes.subjects import open_subject
    from verification.probabilities import probabilities

    pictures = images_from_files(images, "decoding", session.listener.progress)
    spec = ENGINES[options.engine or DEFAULT_ENGINE]
    subject = subjects_of(session, spec, [options.precision or Precision.fp32], device.device)[0]
    if not session.card.trained:
        session.listener.say("warning", "the weights are freshly initialised: the classes mean nothing")
    how = (runtime.threads, runtime.allow_saturation, runtime.cuda_graphs)
    with open_subject(session.run, subject, *how) as opened:
        card = opened.card
        logits = opened.infer(normalised(pictures, card.mean, card.std))
    ranked = likeliest(probabilities(logits), card.classes, top)
    return Predictions(subject, tuple(Prediction(*pair) for pair in zip(images, ranked, strict=True)))


def likeliest(
    shares: "NDArray[np.float64]", classes: Sequence[str], top: int
) -> list[tuple[tuple[str, float], ...]]:
    """The `top` classes of each row of probabilities [N, classes], the likeliest first."""
    return [
        tuple((classes[index], float(row[index])) for index in (-row).argsort(kind="stable")[:top])
        for row in shares
    ]
