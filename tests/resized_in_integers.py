"""An implementation of `data.fit` that does not use Pillow: the antialiased bilinear filter in integers.

The arithmetic is that of Pillow's Resample.c: coefficients in 22 bits, sums that begin at one half, and a
shift. Programs in other languages port this file.
"""

import numpy as np
from numpy.typing import NDArray

SIZE = 32
PRECISION_BITS = 32 - 8 - 2
Pixels = NDArray[np.uint8]


def coefficients(length: int, outputs: int) -> list[tuple[int, list[int]]]:
    """For each output pixel, the first input pixel that it reads and the coefficients from there on.

    The filter is a triangle that reaches `support` input pixels to both sides of the centre. Everything is
    computed in float64, and a coefficient is then rounded to the nearest multiple of 2**-22.
    """
    scale = length / outputs
    support = max(scale, 1.0)
    found = []
    for output in range(outputs):
        centre = (output + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), length)
        weights = [triangle((x - centre + 0.5) * (1.0 / support)) for x in range(first, last)]
        total = 0.0
        for weight in weights:
            total += weight
        found.append((first, [int(0.5 + weight / total * (1 << PRECISION_BITS)) for weight in weights]))
    return found


def triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def columns_resized(pixels: Pixels, outputs: int) -> Pixels:
    """Resize each row of uint8 [height, width, 3] to `outputs` pixels."""
    sums = np.empty((pixels.shape[0], outputs, 3), np.int64)
    for output, (first, weights) in enumerate(coefficients(pixels.shape[1], outputs)):
        part = pixels[:, first : first + len(weights)].astype(np.int64)
        sums[:, output] = (1 << (PRECISION_BITS - 1)) + np.einsum("hwc,w->hc", part, np.array(weights))
    return np.clip(sums >> PRECISION_BITS, 0, 255).astype(np.uint8)


def fitted_in_integers(pixels: Pixels) -> Pixels:
    """uint8 [height, width, 3] of any size to uint8 [32, 32, 3]."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = pixels[top : top + side, left : left + side]
    if side == SIZE:
        return square
    rows = columns_resized(square, SIZE)
    return columns_resized(rows.transpose(1, 0, 2), SIZE).transpose(1, 0, 2)


def odd_pictures(count: int, largest: int = 200) -> list[Pixels]:
    """Noise and smooth pictures of random sizes and shapes, many of them odd and some smaller than 32x32."""
    random = np.random.default_rng(16)
    pictures = []
    for index in range(count):
        height, width = (int(length) for length in np.exp(random.uniform(0, np.log(largest), 2)))
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + np.array([0, 85, 170])
        pictures.append(noise if index % 2 else ramp.astype(np.uint8))
    return pictures
