"""Cut a picture to its central square and resize the square to 32x32, the same to the bit everywhere.

1. The square has the shorter side of the picture. With integer division, it begins at column
   (width - side) // 2 and row (height - side) // 2. A picture of 34x31 loses one column at its left and two
   at its right.
2. A square of 32x32 comes out as it is.
3. Any other square is resized with Pillow's antialiased bilinear filter, first every row to 32 columns and
   then every column to 32 rows. The pixels between the two passes are rounded to 8 bits.

Each pass is one call of Pillow that changes one axis. If a call changes both axes, Pillow 13 chooses the
order of the passes by the shape, and the order decides some pixels (of 80 in 400 pictures that were not cut
to a square first). A program in another language can be equal to the bit only if the order is fixed.
`tests/data/test_fitted_pictures.py` computes the two passes in integers, independently of Pillow.
"""

from typing import TYPE_CHECKING

from data.dataset import IMAGE_SIZE

if TYPE_CHECKING:
    from PIL.Image import Image


def fitted(picture: "Image") -> "Image":
    """Return the 32x32 picture that a network is given of an RGB picture of any size."""
    from PIL import Image

    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.crop((left, top, left + side, top + side))
    rows = square.resize((IMAGE_SIZE, side), Image.Resampling.BILINEAR)
    return rows.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
