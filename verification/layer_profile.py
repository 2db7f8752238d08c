"""How long each layer of an engine takes, as far as the runtime of the engine tells."""

from dataclasses import dataclass

from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from progress import Progress, silent
from runtimes.runtime import LayerTime
from runtimes.subjects import Subject, open_subject
from runtimes.timing import filled

CALLS = 20


@dataclass(frozen=True)
class LayerProfile:
    """The layers of one engine at one batch size.

    Attributes:
        layers: the slowest first; None where the runtime has no profile.
    """

    subject: Subject
    batch: int
    layers: tuple[LayerTime, ...] | None


def profiles_of(
    run: RunDirectory,
    dataset: Dataset,
    subjects: list[Subject],
    batch: int,
    threads: int | None = None,
    allow_saturation: bool = False,
    progress: Progress = silent,
    cuda_graphs: bool | None = None,
) -> list[LayerProfile]:
    """Profile engines one after the other, each in `CALLS` calls.

    A profile slows a call down, so that the layers say where the time goes and not how long a call takes.

    Raises:
        UserError: a subject does not run here.
    """
    images = filled(dataset.normalised(dataset.test.images[:batch]), batch)
    profiles = []
    for subject in progress(subjects, "profiling", len(subjects)):
        with open_subject(run, subject, threads, allow_saturation, cuda_graphs) as runtime:
            layers = runtime.layer_times(images, CALLS)
        ordered = None if layers is None else tuple(sorted(layers, key=lambda layer: -layer.ms))
        profiles.append(LayerProfile(subject, batch, ordered))
    return profiles
