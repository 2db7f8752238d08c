import numpy as np
import pytest
from PIL import Image
from resized_in_integers import PRECISION_BITS, coefficients, fitted_in_integers, odd_pictures

from data.fit import fitted


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(fitted(picture))


def test_equal_to_the_bit_to_arithmetic_in_integers() -> None:
    pictures = odd_pictures(400)
    assert {picture.shape[0] < picture.shape[1] for picture in pictures} == {True, False}
    unequal = [
        picture.shape
        for picture in pictures
        if not np.array_equal(pixels_of(Image.fromarray(picture)), fitted_in_integers(picture))
    ]
    assert unequal == []


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (2000, 33), (31, 31), (32, 32), (33, 33), (1024, 1024)])
def test_extreme_sizes_are_equal_too(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert np.array_equal(pixels_of(Image.fromarray(pixels)), fitted_in_integers(pixels))


def test_coefficients_that_were_computed_by_hand() -> None:
    """Four pixels become two, whose triangles reach two pixels to both sides: 1/4, 3/4, 3/4, 1/4.

    The first one begins outside of the picture, so that 3/4, 3/4 and 1/4 are left, divided by their sum.
    """
    one = 1 << PRECISION_BITS
    assert coefficients(4, 2) == [
        (0, [round(one * 3 / 7), round(one * 3 / 7), round(one / 7)]),
        (1, [round(one / 7), round(one * 3 / 7), round(one * 3 / 7)]),
    ]


def test_an_enlarged_pixel_is_interpolated_by_hand() -> None:
    """Two columns, 0 and 200, to 32: output 15 has its centre at 0.96875, 0.46875 from the first pixel's."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[:, 1] = 200
    row = pixels_of(Image.fromarray(pixels))[7, :, 0]
    assert row[0] == 0
    assert row[15] == round(200 * 0.46875)
    assert row[31] == 200


@pytest.mark.parametrize(
    ("size", "first"),
    [((33, 32), (0, 0)), ((35, 32), (1, 0)), ((32, 33), (0, 0)), ((32, 37), (0, 2)), ((40, 32), (4, 0))],
)
def test_the_square_begins_at_a_whole_pixel(size: tuple[int, int], first: tuple[int, int]) -> None:
    """Half of an odd difference is rounded down."""
    width, height = size
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    left, top = first
    assert np.array_equal(pixels_of(Image.fromarray(pixels)), pixels[top : top + 32, left : left + 32])


def test_rows_come_before_columns() -> None:
    """The order is seen in the pixels: the other one differs somewhere in noise."""
    pixels = np.random.default_rng(2).integers(0, 256, (77, 77, 3), np.uint8)
    turned = fitted_in_integers(pixels.transpose(1, 0, 2)).transpose(1, 0, 2)
    assert not np.array_equal(pixels_of(Image.fromarray(pixels)), turned)
    assert np.abs(turned.astype(int) - fitted_in_integers(pixels)).max() == 1
