"""Pictures of many sizes and shapes, made of images of the test split, to choose the golden pictures from.

Photographs that a program meets are larger than 32x32 and seldom square. So each image is enlarged and its
edges are repeated until it has one of `SIZES`. Decoding, cropping and resizing such a picture gives nearly
the same image back, and a program that does so in another way gives other pixels.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.dataset import Images, Split
from data.images import image_from_bytes

# Width and height, in turns: the network's own size, odd sizes, wide and tall ones, and one that is smaller.
SIZES = ((32, 32), (33, 33), (57, 57), (75, 101), (133, 64), (31, 45), (27, 27), (200, 47))
# From so many images of the test split the golden pictures are chosen.
_POOL = 256

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class GoldenPicture:
    """One picture.

    Attributes:
        png: the file.
        fitted: what the file is to the network before it is normalised: uint8 [3, 32, 32].
        form: which of `SIZES` the picture has.
    """

    png: bytes
    fitted: Images
    form: int


def pictures_from_split(split: Split) -> list[GoldenPicture]:
    """Make pictures of 256 images, or of all if there are fewer.

    The images with the smallest sha256 are taken, so that their order in the split plays no part.
    """
    order = sorted(range(len(split)), key=split.hashes.__getitem__)[:_POOL]
    return [_picture(split.images[index], turn % len(SIZES)) for turn, index in enumerate(order)]


def _picture(image: Images, form: int) -> GoldenPicture:
    png = _png_of(enlarged(image, *SIZES[form]))
    return GoldenPicture(png, image_from_bytes(png, "a golden picture"), form)


def enlarged(image: Images, width: int, height: int) -> Pixels:
    """Return an image uint8 [3, 32, 32] as a picture uint8 [height, width, 3].

    The image fills the central square, and the rest of the picture repeats the square's edges.
    """
    from PIL import Image

    side = min(width, height)
    square = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    margins = ((top, height - side - top), (left, width - side - left), (0, 0))
    return np.pad(np.asarray(square), margins, mode="edge")


def _png_of(pixels: Pixels) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
