import io

import numpy as np
import pytest
from PIL import Image

from bundling.golden_pictures import SIZES, enlarged, pictures_from_split
from data.dataset import Dataset
from data.images import image_from_bytes


def test_the_sizes_exercise_crop_and_resize() -> None:
    """The network's size, odd sizes, both directions to crop in, and enlarging as well as reducing."""
    sides = [min(size) for size in SIZES]
    assert (32, 32) in SIZES
    assert min(sides) < 32 < max(sides)
    assert any(width > height for width, height in SIZES)
    assert any(width < height for width, height in SIZES)
    assert any((width - height) % 2 for width, height in SIZES)
    assert any(side % 2 for side in sides)


@pytest.mark.parametrize("size", SIZES)
def test_the_image_stands_in_the_central_square(size: tuple[int, int]) -> None:
    """Left of the square every row repeats the square's first pixel, and so on around it."""
    width, height = size
    image = np.random.default_rng(3).integers(0, 256, (3, 32, 32), np.uint8)
    picture = enlarged(image, width, height)
    assert picture.shape == (height, width, 3)
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture[top : top + side, left : left + side]
    expected = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
    assert np.array_equal(square, np.asarray(expected))
    assert (picture[:, :left] == picture[:, left : left + 1]).all()
    assert (picture[: top + 1] == picture[top]).all()


def test_a_picture_is_what_its_file_is_to_the_network(digits: Dataset) -> None:
    pictures = pictures_from_split(digits.test)
    assert len(pictures) == 256
    for picture in pictures[:20]:
        assert np.array_equal(picture.fitted, image_from_bytes(picture.png, "picture"))
        with Image.open(io.BytesIO(picture.png)) as file:
            assert (file.format, file.mode, file.size) == ("PNG", "RGB", SIZES[picture.form])


def test_the_network_sees_nearly_the_image_of_the_split(digits: Dataset) -> None:
    pictures = pictures_from_split(digits.test)
    images = digits.test.images.astype(float)
    for picture in pictures[:24]:
        nearest = np.abs(images - picture.fitted).mean((1, 2, 3)).min()
        assert nearest < (1e-9 if picture.form == 0 else 12)


def test_the_order_of_the_split_plays_no_part(digits: Dataset) -> None:
    turned = digits.test.subset(np.arange(len(digits.test))[::-1])
    both = [[picture.png for picture in pictures_from_split(split)] for split in (turned, digits.test)]
    assert both[0] == both[1]
