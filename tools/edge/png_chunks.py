"""PNG files that Pillow does not write: any bit depth and colour type, interlaced, with any chunk."""

import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Adam7: first column and row of each pass, then the steps between columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(
    width: int,
    depth: int,
    colour: int,
    rows: NDArray[np.uint8],
    chunks: Iterable[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """Return a PNG file whose rows are not filtered.

    Args:
        width: in pixels.
        depth: bits of a channel.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
        rows: the bytes of each row, [height, …]; of an interlaced file the pixels [height, width, channels].
        chunks: further chunks to stand before the pixels.
    """
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, int(interlaced))
    scanlines = _interlaced(rows) if interlaced else _scanlines(rows)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in every)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _scanlines(rows: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in rows)


def _interlaced(pixels: NDArray[np.uint8]) -> bytes:
    return b"".join(_scanlines(pixels[y::down, x::right]) for x, y, right, down in _PASSES)
