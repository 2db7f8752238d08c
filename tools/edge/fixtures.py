"""Make what programs in other languages are compared with: a test split through a bundle, and fitted pictures.

    python -m tools.edge.fixtures BUNDLE FOLDER [--data-dir DIR]

    FOLDER/test/fitted.u8        the whole test split: uint8 [N, 32, 32, 3]
    FOLDER/test/logits.ID.f32    what artifact ID gives for the split: float32 [N, classes], little endian
    FOLDER/test/labels.json      {"count", "labels": the true ones, "answers": {ID: the artifact's}}
    FOLDER/fit/pictures.bin      400 pictures: width and height as uint32 in little endian, then the RGB bytes
    FOLDER/fit/fitted.u8         what `data.fit` makes of them: uint8 [400, 32, 32, 3]

Artifacts whose runtime is not here are left out, and named.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundling.document import ArtifactEntry
from bundling.received import bundle_folder, checked_document
from bundling.trial import artifact_runtime
from data.dataset import Dataset
from data.fit import fitted
from data.load import dataset_from_name
from errors import UserError
from verification.compare import logits_of_split

PICTURES = 400
_LARGEST = 200
Pixels = NDArray[np.uint8]


def odd_pictures(count: int = PICTURES) -> list[Pixels]:
    """Return noise and smooth pictures, uint8 [height, width, 3], of random sizes from 1 to 200."""
    random = np.random.default_rng(16)
    pictures = []
    for index in range(count):
        height, width = (int(length) for length in np.exp(random.uniform(0, np.log(_LARGEST), 2)))
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + np.array([0, 85, 170])
        pictures.append(noise if index % 2 else ramp.astype(np.uint8))
    return pictures


def write_fitted_pictures(folder: Path) -> None:
    """Write pictures.bin and fitted.u8."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    pictures = odd_pictures()
    headers = (struct.pack("<II", picture.shape[1], picture.shape[0]) for picture in pictures)
    pairs = zip(headers, pictures, strict=True)
    (folder / "pictures.bin").write_bytes(b"".join(header + pixels.tobytes() for header, pixels in pairs))
    small = (np.asarray(fitted(Image.fromarray(picture))).tobytes() for picture in pictures)
    (folder / "fitted.u8").write_bytes(b"".join(small))


def write_test_split(bundle: Path, folder: Path, dataset: Dataset) -> None:
    """Write the test split, and what every artifact of a bundle that runs here gives for it."""
    folder.mkdir(parents=True, exist_ok=True)
    document = checked_document(bundle)
    test = dataset.test
    (folder / "fitted.u8").write_bytes(np.ascontiguousarray(test.images.transpose(0, 2, 3, 1)).tobytes())
    answers = {}
    for artifact in document.artifacts:
        logits = _logits(bundle, artifact, dataset)
        if logits is not None:
            (folder / f"logits.{artifact.id}.f32").write_bytes(logits.astype("<f4").tobytes())
            answers[artifact.id] = logits.argmax(1).tolist()
    labels = {"count": len(test), "labels": test.labels.tolist(), "answers": answers}
    (folder / "labels.json").write_text(json.dumps(labels) + "\n")


def _logits(bundle: Path, artifact: ArtifactEntry, dataset: Dataset) -> NDArray[np.float32] | None:
    try:
        with artifact_runtime(bundle, artifact) as runtime:
            return logits_of_split(runtime, dataset, dataset.test, artifact.id)
    except UserError as error:
        print(f"left out {artifact.id}: {error.problem}")
        return None


def main() -> None:
    """Read the command line and write both folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    write_fitted_pictures(options.folder / "fit")
    with bundle_folder(options.bundle) as bundle:
        dataset = dataset_from_name(checked_document(bundle).network.dataset, options.data_dir)
        write_test_split(bundle, options.folder / "test", dataset)


if __name__ == "__main__":
    main()
