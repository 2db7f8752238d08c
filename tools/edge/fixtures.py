"""What Python computes, written down for the tests of the C++ library.

    python -m tools.edge.fixtures BUNDLE FOLDER

FOLDER is made anew:

    pictures/             pictures of every kind, with the pixels that Python decodes (tools/edge/pictures.py)
    fits/000.ppm …        400 pictures of odd sizes
    fits/fitted.u8        these, cut and resized: uint8 [400, 32, 32, 3]
    split/images.u8       the test split of digits: uint8 [N, 32, 32, 3]
    split/classes.u32     the true classes: uint32 [N]
    split/logits.ID.f32   what artifact ID of the bundle gives for the split in Python: float32 [N, classes]

Integers and floats are little endian.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bundling.document import ArtifactEntry
from bundling.received import checked_document
from bundling.trial import artifact_runtime
from data.dataset import Split, normalised
from data.digits import digits
from data.fit import fitted
from errors import UserError
from graphs.card import Batch
from runtimes.runtime import infer_in_batches
from tools.edge.pictures import write_pictures

FITS = 400
_BATCH = 32


def main() -> None:
    """Make FOLDER for the artifacts of BUNDLE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle of a network trained on digits")
    parser.add_argument("folder", type=Path, help="what is there is removed")
    arguments = parser.parse_args()
    try:
        write_fixtures(arguments.bundle, arguments.folder)
    except UserError as error:
        sys.exit(f"error: {error.problem}\n  fix: {error.fix}")


def write_fixtures(bundle: Path, folder: Path) -> None:
    """Make the folder, complete or not at all."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_pictures(unfinished / "pictures")
    write_fits(unfinished / "fits")
    write_split(bundle, unfinished / "split")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def write_fits(folder: Path) -> None:
    """Write pictures whose sides have 1 to 300 pixels, and what becomes of them."""
    folder.mkdir()
    random = np.random.default_rng(400)
    results = []
    for number in range(FITS):
        height, width = random.integers(1, 301, 2)
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        picture.save(folder / f"{number:03}.ppm")
        results.append(np.asarray(fitted(picture)))
    (folder / "fitted.u8").write_bytes(np.stack(results).tobytes())


def write_split(bundle: Path, folder: Path) -> None:
    """Write the test split of digits, and the logits of each artifact that runs on a CPU."""
    folder.mkdir()
    split = digits().test
    (folder / "images.u8").write_bytes(_rows_of_pixels(split).tobytes())
    (folder / "classes.u32").write_bytes(split.labels.astype("<u4").tobytes())
    for artifact in checked_document(bundle).artifacts:
        if artifact.format == "onnx":
            logits = _logits(bundle, artifact, split)
            (folder / f"logits.{artifact.id}.f32").write_bytes(logits.astype("<f4").tobytes())


def _rows_of_pixels(split: Split) -> np.ndarray:
    return np.ascontiguousarray(split.images.transpose(0, 2, 3, 1))


def _logits(bundle: Path, artifact: ArtifactEntry, split: Split) -> Batch:
    with artifact_runtime(bundle, artifact) as runtime:
        if artifact.input.dtype == "uint8":
            images = _rows_of_pixels(split)
        else:
            images = normalised(split.images, runtime.card.mean, runtime.card.std)
        size = artifact.input.batch.max or _BATCH
        batches = (images[start : start + size] for start in range(0, len(images), size))
        return infer_in_batches(runtime, batches, size)


if __name__ == "__main__":
    main()
