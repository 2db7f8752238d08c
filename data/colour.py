"""A picture of any mode to 8-bit RGB, as a viewer shows the picture.

orientation        the EXIF orientation is applied
transparency       an alpha channel, a transparent colour or a palette with alpha is composited over white:
                   (c * a + 255 * (255 - a)) / 255, rounded to the nearest integer. What lies under a
                   transparent pixel is mostly black, and no viewer shows it.
16-bit grey        value * 255 / 65535, rounded to the nearest integer. Pillow's own conversion cuts off every
                   value above 255, which turns such a picture white.
16-bit colour      the high byte of each value, which Pillow reads; at most 1 below value * 255 / 65535
other grey         refused where the value of white is not known, because the pixels are floats or integers
                   of 32 bits
CMYK               without a colour profile: red is (255 - C) * (255 - K) / 255, likewise green and blue
"""

from typing import TYPE_CHECKING

import numpy as np

from errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

# Both are numbers of TIFF tags; the values say that a pixel has 16 bits and that 0 is black.
_BITS_OF_A_PIXEL, _SIXTEEN = 258, (16,)
_PHOTOMETRIC, _ZERO_IS_BLACK = 262, 1
# The number of an EXIF tag.
_ORIENTATION = 274


def upright_rgb(picture: "Image", source: str) -> "Image":
    """Return an opened picture as 8-bit RGB, upright.

    Args:
        picture: as Pillow opened the picture; the function may change it.
        source: how an error names the picture.

    Raises:
        UserError: the value that stands for white is not known; see the module's docstring.
    """
    picture.load()
    orientation = picture.getexif().get(_ORIENTATION)
    return _upright(_rgb(picture, source), orientation)


def _upright(rgb: "Image", orientation: object) -> "Image":
    """Turn a picture as its EXIF orientation says.

    Pillow's own function, ImageOps.exif_transpose, also writes all of the EXIF block again, and fails on a
    block in which another entry is broken.
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return rgb.transpose(turns[orientation]) if orientation in turns else rgb


def _rgb(picture: "Image", source: str) -> "Image":
    if picture.mode.startswith(("I", "F")):
        return _from_grey_of_16_bits(picture, source)
    return _over_white(picture) if picture.has_transparency_data else picture.convert("RGB")


def _over_white(picture: "Image") -> "Image":
    from PIL import Image

    pixels = np.asarray(picture.convert("RGBA")).astype(np.uint32)
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    # 127 is half of 255, rounded down; a sum is never exactly between two multiples of 255.
    return Image.fromarray(((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))


def _from_grey_of_16_bits(picture: "Image", source: str) -> "Image":
    from PIL import Image

    if not _white_is_65535(picture):
        raise UserError(
            f"{source} has grey pixels of mode {picture.mode}, and the value of white is not known",
            "save the picture with 8 bits a channel",
        )
    values = np.asarray(picture).astype(np.uint32)
    # 65535 = 257 * 255, and adding 128 before the division rounds to the nearest integer.
    grey = ((values + 128) // 257).astype(np.uint8)
    if (transparent := picture.info.get("transparency")) is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _white_is_65535(picture: "Image") -> bool:
    """Whether a picture of Pillow's integer or float modes has 16 bits a pixel, with 0 for black."""
    if tags := getattr(picture, "tag_v2", None):
        found = (tags.get(_BITS_OF_A_PIXEL), tags.get(_PHOTOMETRIC))
        return picture.mode.startswith("I;16") and found == (_SIXTEEN, _ZERO_IS_BLACK)
    return picture.mode != "F" and picture.format in ("PNG", "PPM")
