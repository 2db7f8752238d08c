"""What becomes of each kind of picture, against values that were computed by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.colour import upright_rgb
from data.images import image_from_bytes
from errors import UserError

SIZE = (32, 32)


def encoded(picture: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def colour_of(content: bytes) -> list[int]:
    """The one colour of a picture that has the same colour everywhere."""
    image = image_from_bytes(content, "picture")
    assert image.dtype == np.uint8
    assert [channel.min() for channel in image] == [channel.max() for channel in image]
    return image[:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        # 10 * 128 + 255 * 127 = 33665 = 255 * 132.02, and likewise 137.04 and 142.06.
        ("RGBA", (10, 20, 30, 128), [132, 137, 142]),
        # 0 * 1 + 255 * 254 = 255 * 254 exactly, and 100 * 3 + 255 * 252 = 255 * 253.18.
        ("RGBA", (0, 100, 255, 1), [254, 254, 255]),
        ("RGBA", (100, 100, 100, 3), [253, 253, 253]),
        # 1 * 200 + 255 * 55 = 255 * 55.78, and likewise 56.57 and 133.43.
        ("RGBA", (1, 2, 100, 200), [56, 57, 133]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("LA", (77, 255), [77, 77, 77]),
        # 0 * 51 + 255 * 204 = 255 * 204.
        ("LA", (0, 51), [204, 204, 204]),
        ("LA", (77, 0), [255, 255, 255]),
    ],
)
def test_grey_colour_and_alpha_of_a_png(mode: str, colour: object, expected: list[int]) -> None:
    assert colour_of(encoded(Image.new(mode, SIZE, colour))) == expected


def palette(index: int) -> Image.Image:
    picture = Image.new("P", SIZE, index)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    return picture


def test_a_palette_without_transparency() -> None:
    assert colour_of(encoded(palette(1))) == [200, 100, 50]


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_palette_with_a_transparent_colour(kind: str) -> None:
    assert colour_of(encoded(palette(1), kind, transparency=1)) == [255, 255, 255]
    assert colour_of(encoded(palette(1), kind, transparency=0)) == [200, 100, 50]


def test_a_palette_with_alpha() -> None:
    """200 * 102 + 255 * 153 = 255 * 233, and likewise 193 and 173."""
    assert colour_of(encoded(palette(1), transparency=bytes([0, 102]))) == [233, 193, 173]


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (10, 20, 30)), ("L", 10), ("1", 0)])
def test_a_transparent_colour_without_a_palette(mode: str, colour: object) -> None:
    picture = Image.new(mode, SIZE, colour)
    assert colour_of(encoded(picture, transparency=colour)) == [255, 255, 255]


def test_cmyk() -> None:
    """K of 40 leaves 215: 215 - 215 * 10 / 255 = 206.57, and likewise 198.14 and 189.71."""
    assert colour_of(encoded(Image.new("CMYK", SIZE, (10, 20, 30, 40)), "tiff")) == [207, 198, 190]


def test_cmyk_of_a_jpeg_is_not_inverted() -> None:
    assert colour_of(encoded(Image.new("CMYK", SIZE, (0, 0, 0, 0)), "jpeg", quality=100)) == [255, 255, 255]
    assert colour_of(encoded(Image.new("CMYK", SIZE, (0, 0, 0, 255)), "jpeg", quality=100)) == [0, 0, 0]


# Half a step is at 128.5 = 65535 / 255 / 2.
SIXTEEN_BITS = [(0, 0), (128, 0), (129, 1), (385, 1), (386, 2), (32896, 128), (65406, 254), (65535, 255)]


@pytest.mark.parametrize(("value", "expected"), SIXTEEN_BITS)
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_of_16_bits_is_scaled(kind: str, value: int, expected: int) -> None:
    picture = Image.fromarray(np.full(SIZE, value, np.uint16))
    assert colour_of(encoded(picture, kind)) == [expected] * 3


@pytest.mark.parametrize(("value", "expected"), SIXTEEN_BITS)
def test_grey_of_16_bits_in_a_pgm_is_scaled(value: int, expected: int) -> None:
    """Pillow opens a PGM in mode I and not in I;16."""
    content = b"P5 32 32 65535\n" + np.full(SIZE, value, ">u2").tobytes()
    assert colour_of(content) == [expected] * 3


def test_a_transparent_grey_of_16_bits() -> None:
    pixels = np.full(SIZE, 10_000, np.uint16)
    assert colour_of(encoded(Image.fromarray(pixels), transparency=10_000)) == [255] * 3
    assert colour_of(encoded(Image.fromarray(pixels), transparency=10_001)) == [39] * 3


def png_of_16_bits(colour: tuple[int, int, int]) -> bytes:
    """Pillow writes no such file. It is 8 bytes, and then the chunks with their checksums."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", *colour) * 32
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * 32)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_colour_of_16_bits_is_its_high_byte() -> None:
    assert colour_of(png_of_16_bits((0x0A00, 0x80FF, 0xFFFF))) == [10, 128, 255]


def tiff_entry(tag: int, value: int) -> bytes:
    """An entry of a TIFF directory that holds one 16-bit number."""
    return struct.pack("<HHIH", tag, 3, 1, value)


def tiff_of_16_bits(tag: int, old: int, new: int) -> bytes:
    """A TIFF of 16-bit grey with another value in one of its tags."""
    content = encoded(Image.fromarray(np.full(SIZE, 70, np.uint16)), "tiff")
    assert content.count(tiff_entry(tag, old)) == 1
    return content.replace(tiff_entry(tag, old), tiff_entry(tag, new))


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(np.full(SIZE, 70_000, np.int32)), "tiff"),
        encoded(Image.fromarray(np.full(SIZE, 0.5, np.float32)), "tiff"),
        b"Pf\n32 32\n-1.0\n" + np.full(SIZE, 0.5, "<f4").tobytes(),
        encoded(Image.fromarray(np.full(SIZE, 70, np.uint16)), "tiff", tiffinfo={339: 2}),
        tiff_of_16_bits(258, 16, 12),
        tiff_of_16_bits(262, 1, 0),
    ],
    ids=["32 bits", "float", "float of a PFM", "signed", "12 bits", "0 is white"],
)
def test_grey_without_a_known_white_is_refused(content: bytes) -> None:
    with pytest.raises(
        UserError, match=r"the source has grey pixels of mode .*, and the value of white"
    ) as e:
        image_from_bytes(content, "the source")
    assert e.value.fix == "save the picture with 8 bits a channel"


def quarters() -> Image.Image:
    """Red, green, blue and white quarters, from the top left along the rows."""
    pixels = np.empty((2, 2, 3), np.uint8)
    pixels[:] = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]])
    return Image.fromarray(pixels.repeat(16, 0).repeat(16, 1))


# Which quarters of the stored picture are shown at the top left, the top right and the bottom left
# (EXIF 2.32, tag 0x0112).
SHOWN = {1: "rgb", 2: "grw", 3: "wbg", 4: "bwr", 5: "rbg", 6: "brw", 7: "wgb", 8: "gwr"}
COLOURS = {"r": [255, 0, 0], "g": [0, 255, 0], "b": [0, 0, 255], "w": [255, 255, 255]}


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_the_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {}
    image = image_from_bytes(encoded(quarters(), kind, exif=exif, **options), "picture")
    corners = [image[:, y, x].tolist() for y, x in ((0, 0), (0, 31), (31, 0))]
    assert corners == [COLOURS[name] for name in SHOWN[orientation]]


def test_the_orientation_turns_a_picture_before_it_is_cut() -> None:
    """A tall picture that is shown lying is cut at its left and right, which are rows as they are stored."""
    pixels = np.zeros((96, 32, 3), np.uint8)
    pixels[32:64] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    assert colour_of(encoded(Image.fromarray(pixels), exif=exif)) == [255, 255, 255]


def test_a_broken_exif_block_is_no_reason_to_refuse_a_picture() -> None:
    content = encoded(
        Image.new("RGB", SIZE, (10, 20, 30)), "jpeg", quality=100, exif=b"Exif\0\0II*\0\xff\xff"
    )
    assert np.abs(np.array(colour_of(content)) - [10, 20, 30]).max() <= 1


def test_a_broken_entry_beside_the_orientation_is_passed_over() -> None:
    """The tag of an integer holds text; the picture is turned all the same."""
    orientation = Image.Exif()
    orientation[0x010F], orientation[0x0112] = "maker", 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 50)).save(buffer, "jpeg", exif=orientation)
    content = buffer.getvalue().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02", 1)
    assert content != buffer.getvalue()
    with Image.open(io.BytesIO(content)) as picture:
        assert upright_rgb(picture, "x").size == (50, 40)
