"""`predict`: pictures to classes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from workflow.options import DeviceOptions, Flag, OneSubjectOptions, RunOptions, RuntimeOptions, flag

if TYPE_CHECKING:
    from workflow.predict import Prediction, Predictions

_DEFAULT_TOP = 3


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures are classified, and how much is said of each."""

    images: list[Path] = field(metadata={"flag": Flag((), "Picture files; other sizes are cut and resized.")})
    top: int | None = flag("--top", help="Classes to show. Default: 3.", least=1)


@flattened
def predict(
    pictures: PictureOptions,
    run: RunOptions,
    subject: OneSubjectOptions,
    device: DeviceOptions,
    runtime: RuntimeOptions,
    output: OutputOptions,
) -> None:
    """Classify pictures with an artifact."""
    from workflow.choice import session_from_options
    from workflow.predict import predictions_from_pictures

    screen = Screen.from_options(output)
    session = session_from_options(run, screen)
    top = _DEFAULT_TOP if pictures.top is None else pictures.top
    predictions = predictions_from_pictures(session, pictures.images, top, subject, device, runtime)
    _show(screen, predictions, session.run.path, top)
    screen.finish(
        "predict",
        run=str(session.run.path),
        predictions=[_as_json(prediction) for prediction in predictions.images],
    )


def _show(screen: Screen, predictions: "Predictions", run: Path, top: int) -> None:
    def cells(prediction: "Prediction") -> list[str]:
        (name, share), *others = prediction.classes
        first = [str(prediction.image), f"{name}  {share:.1%}"]
        return first + ([", ".join(f"{n} {p:.1%}" for n, p in others)] if top > 1 else [])

    subject = predictions.subject
    screen.table(
        f"{subject.engine} {subject.precision}, {run}",
        ["image", "class", *([""] * (top > 1))],
        [cells(prediction) for prediction in predictions.images],
    )


def _as_json(prediction: "Prediction") -> dict[str, Any]:
    classes = [{"class": name, "probability": share} for name, share in prediction.classes]
    return {"image": str(prediction.image), "classes": classes}
