"""Decode pictures into the layout of `data.dataset`."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.dataset import CHANNELS, IMAGE_SIZE, Images
from errors import UserError
from progress import Progress


def image_from_bytes(content: bytes, source: str) -> Images:
    """Decode one picture to uint8 [3, 32, 32], RGB.

    A picture of another size is cut to its central square and resized.

    Args:
        source: how an error names the picture.

    Raises:
        UserError: the bytes are no picture, or a broken one.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as file:
            picture = file.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{source} is not a readable image", "remove or replace it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{source} is too large an image", "scale it down first") from error
    if picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        picture = ImageOps.fit(picture, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def image_from_file(path: Path) -> Images:
    """Decode one file; see `image_from_bytes`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    return image_from_bytes(content, str(path))


def images_from_bytes(contents: list[bytes], source: str, progress: Progress) -> Images:
    """Decode many pictures to uint8 [N, 3, 32, 32]; errors name `source` and the row."""
    rows = (image_from_bytes(content, f"{source}, row {row},") for row, content in enumerate(contents))
    return _stacked(rows, len(contents), f"decoding {Path(source).name}", progress)


def images_from_files(paths: Sequence[Path], description: str, progress: Progress) -> Images:
    """Decode many files to uint8 [N, 3, 32, 32]."""
    return _stacked((image_from_file(path) for path in paths), len(paths), description, progress)


def _stacked(pictures: Iterator[Images], count: int, description: str, progress: Progress) -> Images:
    # One thread: with pictures this small, Pillow's Python part dominates and threads made it
    # twice as slow.
    images = np.empty((count, CHANNELS, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for row, picture in enumerate(progress(pictures, description, count)):
        images[row] = picture
    return images
