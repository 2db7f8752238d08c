"""Pictures of every kind that edge/apps decodes, each with the pixels that Python decodes from it.

Beside each picture, such as NAME.png, stands NAME.png.ppm with the pixels of `data.colour.upright_rgb`, or
NAME.png.refused if C++ has to refuse the picture: a broken file, which Python refuses, too, or one of the few
kinds that Python reads and C++ does not.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.colour import upright_rgb
from tools.edge.png_chunks import png

# Name with the format's suffix, content, and whether C++ has to refuse it.
Sample = tuple[str, bytes, bool]
_ORIENTATION = 0x0112
_XMP = b"<x:xmpmeta><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"


def write_pictures(folder: Path) -> int:
    """Write all pictures with what is expected of each, and return their number."""
    folder.mkdir(parents=True)
    samples = list(all_samples())
    for name, content, refused in samples:
        (folder / name).write_bytes(content)
        if refused:
            (folder / f"{name}.refused").touch()
        else:
            upright_rgb(Image.open(io.BytesIO(content)), name).save(folder / f"{name}.ppm")
    return len(samples)


def all_samples() -> Iterator[Sample]:
    """Every picture; the pixels come from one seed."""
    random = np.random.default_rng(16)
    for samples in (_png_modes, _png_depths, _jpegs, _orientations, _pnms, _broken):
        yield from samples(random)


def pixels(random: np.random.Generator, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """A smooth picture with some noise, uint8 [height, width, channels]."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + c)) * np.cos(y / (5 - c / 2)) for c in range(channels)]
    noise = random.normal(0, 8, (height, width, channels))
    return np.clip(128 + 100 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def picture(random: np.random.Generator, mode: str, height: int = 41, width: int = 37) -> Image.Image:
    """A picture of one of Pillow's modes with 8 bits a channel."""
    values = pixels(random, height, width, len(mode))
    return Image.fromarray(values.squeeze(-1) if len(mode) == 1 else values, mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png_modes(random: np.random.Generator) -> Iterator[Sample]:
    for mode in ("L", "LA", "RGB", "RGBA"):
        yield f"png-{mode}.png", encoded(picture(random, mode), "png"), False
    yield "png-1.png", encoded(picture(random, "L").convert("1"), "png"), False
    yield "png-1-transparent.png", encoded(picture(random, "L").convert("1"), "png", transparency=0), False
    yield "png-L-transparent.png", encoded(picture(random, "L"), "png", transparency=128), False
    flat = picture(random, "RGB").quantize(8).convert("RGB")
    colour = flat.getpixel((0, 0))
    yield "png-RGB-transparent.png", encoded(flat, "png", transparency=colour), False
    for bits in (1, 2, 4, 8):
        palette = picture(random, "RGB").quantize(2**bits)
        yield f"png-palette-{bits}.png", encoded(palette, "png", bits=bits), False
        alpha = bytes(range(0, 256, 256 // 2**bits))
        yield f"png-palette-{bits}-alpha.png", encoded(palette, "png", bits=bits, transparency=alpha), False


def _png_depths(random: np.random.Generator) -> Iterator[Sample]:
    """Pillow writes neither 2 and 4 bits of grey nor 16 bits of colour, nor interlaced files."""
    grey = random.integers(0, 65536, (23, 19), dtype=np.uint16)
    yield "png-16-grey.png", encoded(Image.fromarray(grey), "png"), False
    yield "png-16-grey-transparent.png", encoded(Image.fromarray(grey), "png", transparency=7), True
    for name, colour, channels in (("colour", 2, 3), ("grey-alpha", 4, 2), ("alpha", 6, 4)):
        values = random.integers(0, 65536, (23, 19 * channels), dtype=np.uint16)
        yield f"png-16-{name}.png", png(19, 16, colour, values.astype(">u2").view(np.uint8)), False
    for depth in (2, 4):
        rows = random.integers(0, 256, (23, 19 * depth // 8 + 1), dtype=np.uint8)
        yield f"png-grey-{depth}.png", png(19, depth, 0, rows), False
        yield f"png-grey-{depth}-transparent.png", png(19, depth, 0, rows, [(b"tRNS", b"\0\1")]), True
    colours = pixels(random, 23, 19, 3)
    yield "png-interlaced.png", png(19, 8, 2, colours, interlaced=True), False


def _jpegs(random: np.random.Generator) -> Iterator[Sample]:
    for sampling in (0, 1, 2):
        for quality in (50, 95):
            name = f"jpeg-{sampling}-{quality}.jpg"
            yield name, encoded(picture(random, "RGB"), "jpeg", quality=quality, subsampling=sampling), False
    yield "jpeg-grey.jpg", encoded(picture(random, "L"), "jpeg"), False
    yield "jpeg-progressive.jpg", encoded(picture(random, "RGB"), "jpeg", progressive=True), False
    yield "jpeg-cmyk.jpg", encoded(picture(random, "CMYK"), "jpeg", quality=95), False
    yield "jpeg-restarts.jpg", encoded(picture(random, "RGB", 90, 70), "jpeg", restart_marker_blocks=2), False
    for height, width in ((1, 1), (1, 40), (40, 1), (16, 16), (17, 33)):
        yield f"jpeg-{height}x{width}.jpg", encoded(picture(random, "RGB", height, width), "jpeg"), False


def _orientations(random: np.random.Generator) -> Iterator[Sample]:
    for value in range(10):
        exif = Image.Exif()
        exif[_ORIENTATION] = value
        image = picture(random, "RGB", 20, 30)
        yield f"orientation-{value}.png", encoded(image, "png", exif=exif), False
        yield f"orientation-big-{value}.jpg", encoded(image, "jpeg", exif=_big_endian(value)), False
    image = picture(random, "RGB")
    yield "orientation-broken.jpg", encoded(image, "jpeg", exif=b"Exif\0\0II*\0\xff\xff"), False
    yield "orientation-xmp.jpg", encoded(image, "jpeg", xmp=_XMP), True
    yield "orientation-xmp.png", _with_text(image, "XML:com.adobe.xmp", _XMP.decode()), True
    profile = f"\nexif\n  32\n{_big_endian(6).hex()}\n"
    yield "orientation-profile.png", _with_text(image, "Raw profile type exif", profile), True


def _big_endian(orientation: int) -> bytes:
    """An EXIF block in the byte order that Pillow does not write."""
    return b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def _with_text(image: Image.Image, key: str, text: str) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(key, text)
    return encoded(image, "png", pnginfo=info)


def _pnms(random: np.random.Generator) -> Iterator[Sample]:
    colours, greys = pixels(random, 5, 7, 3).tobytes(), pixels(random, 5, 7, 1).tobytes()
    yield "pnm-colour.pnm", b"P6\n7 5\n255\n" + colours, False
    yield "pnm-grey.pnm", b"P5 7 5 255\n" + greys, False
    yield "pnm-comments.pnm", b"P6 # of pixels\n#\n7\t# 5\r\n5\n255\n" + colours, False
    yield "pnm-white-is-100.pnm", b"P5 7 5 100\n" + greys, True
    yield "pnm-text.pnm", b"P2 1 1 255\n7\n", True
    yield "pnm-truncated.pnm", b"P6 7 5 255\n" + colours[:-1], True
    yield "pnm-without-pixels.pnm", b"P6 0 5 255\n", True


def _broken(random: np.random.Generator) -> Iterator[Sample]:
    as_png, as_jpeg = (encoded(picture(random, "RGB"), kind) for kind in ("png", "jpeg"))
    yield "broken-empty.png", b"", True
    yield "broken-truncated.png", as_png[:-600], True
    # Signature, length, name and the 13 bytes of the header; the next byte is the first of the checksum.
    yield "broken-checksum.png", as_png[:29] + bytes([as_png[29] ^ 1]) + as_png[30:], True
    yield "broken-size.png", png(60_000, 8, 2, np.zeros((60_000, 1), np.uint8)), True
    yield "broken-truncated.jpg", as_jpeg[:-100], True
    yield "broken-header.jpg", as_jpeg[:20], True
    yield "broken-format.png", encoded(picture(random, "RGB"), "webp"), True
    yield "broken-stream.png", as_png.replace(zlib.compress(b"")[:2], b"\0\0", 1), True
