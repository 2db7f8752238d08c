"""Run the golden pictures through the artifacts of a bundle, and compare with what the bundle says."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts.versions import version_of
from bundling.document import Accepts, ArtifactEntry, BundleDocument
from bundling.golden import outputs_of
from data.dataset import IMAGE_SIZE, normalised, scale_and_shift
from data.images import image_from_file
from errors import CheckFailed, UserError
from graphs.card import Batch
from graphs.signal_to_noise import Noise
from runtimes.engines import ENGINES
from runtimes.runtime import Runtime
from vocabulary import Device

_ENGINES = {"ort": "ort", "openvino": "openvino", "tensorrt": "trt", "tensorrt-rtx": "trt"}
# Packages whose version decides whether an artifact may be opened; a plan's runtime compares versions itself.
_PACKAGES = {"ort": "onnxruntime", "openvino": "openvino"}
_ARCHITECTURES: Mapping[str, str] = {"AMD64": "x86_64", "arm64": "aarch64"}
# How many numbers of a version have to be equal.
_EQUAL_NUMBERS: Mapping[Accepts, int | None] = {
    "any": 0,
    "same major": 1,
    "same major and minor": 2,
    "exact": None,
}


@dataclass(frozen=True)
class Trial:
    """What an artifact gave for the golden pictures here.

    Attributes:
        snr_db: signal to noise of its logits against those in the bundle; inf if they are equal.
        failures: what is wrong, a line for each; empty if nothing is.
    """

    snr_db: float
    failures: tuple[str, ...]


def require_same_pictures(folder: Path, document: BundleDocument) -> None:
    """Require that decoding, cropping, resizing and normalising give the bundle's bytes here.

    Raises:
        CheckFailed: a picture gives other pixels, or the pixels give another input.
    """
    golden = document.golden
    expected = fitted_pixels(folder, document)
    for name, pixels in zip(golden.pictures, expected, strict=True):
        if not np.array_equal(image_from_file(folder / name).transpose(1, 2, 0), pixels):
            raise CheckFailed(
                f"{name} gives other pixels here than in {golden.fitted}",
                "use the version of Pillow that requirements.txt names",
            )
    normalise = document.normalise
    scale, shift = scale_and_shift(normalise.mean, normalise.std)
    if (tuple(scale.tolist()), tuple(shift.tolist())) != (normalise.scale, normalise.shift):
        raise CheckFailed("scale and shift are not those of mean and std", "ask for the bundle again")
    given = normalised(expected.transpose(0, 3, 1, 2), normalise.mean, normalise.std)
    if given.astype("<f4").tobytes() != (folder / golden.input).read_bytes():
        raise CheckFailed(
            f"{golden.fitted} is normalised to other values than {golden.input}",
            "ask for the bundle again",
        )


def fitted_pixels(folder: Path, document: BundleDocument) -> NDArray[np.uint8]:
    """Return the pixels of the golden pictures, uint8 [N, 32, 32, 3]."""
    pixels = np.fromfile(folder / document.golden.fitted, np.uint8)
    return pixels.reshape(document.golden.count, IMAGE_SIZE, IMAGE_SIZE, -1)


def trial_of(
    folder: Path, document: BundleDocument, artifact: ArtifactEntry, threads: int | None = None
) -> Trial:
    """Run the golden pictures through an artifact in one batch.

    Raises:
        UserError: the artifact does not run on this machine, or not in the version that is installed.
        CheckFailed: the artifact runs, and not as it should.
    """
    golden = document.golden
    images = np.fromfile(folder / golden.input, "<f4").reshape(golden.count, -1, IMAGE_SIZE, IMAGE_SIZE)
    expected = np.fromfile(folder / artifact.golden.logits, "<f4").reshape(golden.count, -1)
    with artifact_runtime(folder, artifact, threads) as runtime:
        logits = outputs_of(runtime, fitted_pixels(folder, document), images)
    return compared(expected, logits, golden.labels, artifact.golden.snr_db)


def compared(expected: Batch, logits: Batch, labels: tuple[int, ...], limit: float) -> Trial:
    """Compare logits [N, classes] with those of a bundle.

    Args:
        labels: the answers that stand in the bundle.
        limit: the least signal to noise in dB.
    """
    snr_db = Noise().update(expected, logits).snr_db
    failures = []
    if not snr_db >= limit:
        failures.append(f"{snr_db:.1f} dB from the golden logits, under {limit:g}")
    if wrong := int((logits.argmax(1) != np.array(labels)).sum()):
        failures.append(f"{wrong} of {len(labels)} golden pictures get another label")
    return Trial(snr_db, tuple(failures))


def artifact_runtime(folder: Path, artifact: ArtifactEntry, threads: int | None = None) -> Runtime:
    """Return the runtime of an artifact, which is a context manager.

    Raises:
        UserError: the artifact is for other CPUs or has other settings than skipfold uses, or the installed
            version of its runtime is not accepted.
    """
    _require_version(artifact)
    machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if machine not in artifact.hardware.arch:
        raise UserError(
            f"{artifact.id} is for {' or '.join(artifact.hardware.arch)}, and this is {machine}",
            "use another artifact of the bundle",
        )
    engine = ENGINES[_ENGINES[artifact.runtime.name]]
    if artifact.runtime.settings != (used := dict(engine.runtime().settings)):
        raise UserError(
            f"{artifact.id} was verified with the settings {artifact.runtime.settings}, and this version of "
            f"skipfold uses {used}",
            "use the version of skipfold that `producer` names in bundle.json",
        )
    path = folder / artifact.file
    return engine.runtime()(path, artifact.precision, engine.device(Device.cpu), threads)


def _require_version(artifact: ArtifactEntry) -> None:
    runtime = artifact.runtime
    package = _PACKAGES.get(runtime.name)
    if package is None:
        return
    found = version_of(package)
    if found is None or not accepts_version(runtime.accepts, runtime.verified_version, found):
        raise UserError(
            f"{artifact.id} was made with {package} {runtime.verified_version} and accepts "
            f"{runtime.accepts} of it, and {found or 'none'} is installed",
            f"pip install {package}=={runtime.verified_version}",
        )


def accepts_version(accepts: Accepts, made_with: str, found: str) -> bool:
    """Whether an artifact may be opened by a version of its runtime.

    Args:
        made_with: the version that computed the golden logits, for example "2026.4.1".
        found: the version that is here.
    """
    count = _EQUAL_NUMBERS[accepts]
    return made_with.split(".")[:count] == found.split(".")[:count]
