"""Decode pictures into uint8 arrays of the layout that `data.dataset` describes."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.colour import upright_rgb
from data.dataset import CHANNELS, IMAGE_SIZE, Images
from data.fit import fitted
from errors import UserError
from progress import Progress


def image_from_bytes(content: bytes, source: str) -> Images:
    """Decode one picture to an RGB image, uint8 [3, 32, 32].

    `data.colour` says what becomes of 16 bits, transparency and orientation. A picture of another size is cut
    to its central square and resized as `data.fit` says.

    Args:
        source: how an error names the picture.

    Raises:
        UserError: the bytes are no picture, a broken picture, one so large that Pillow takes it for a
            decompression bomb, or one whose value of white is not known.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as file:
            picture = fitted(upright_rgb(file, source))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{source} is not a readable image", "remove or replace it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{source} is too large an image", "scale it down first") from error
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def image_from_file(path: Path) -> Images:
    """Decode one file to uint8 [3, 32, 32]; raises UserError as `image_from_bytes` does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    return image_from_bytes(content, str(path))


def images_from_bytes(contents: list[bytes], source: str, progress: Progress) -> Images:
    """Decode the pictures of a table to uint8 [N, 3, 32, 32]; errors name `source` and the row."""
    rows = (image_from_bytes(content, f"{source}, row {row},") for row, content in enumerate(contents))
    return _stacked(rows, len(contents), f"decoding {Path(source).name}", progress)


def images_from_files(paths: Sequence[Path], description: str, progress: Progress) -> Images:
    """Decode files to uint8 [N, 3, 32, 32]."""
    return _stacked((image_from_file(path) for path in paths), len(paths), description, progress)


def _stacked(pictures: Iterator[Images], count: int, description: str, progress: Progress) -> Images:
    # One thread decodes all pictures, because the Python part of Pillow takes most of the time with pictures
    # of 32x32 pixels, and several threads were half as fast.
    images = np.empty((count, CHANNELS, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for row, picture in enumerate(progress(pictures, description, count)):
        images[row] = picture
    return images
