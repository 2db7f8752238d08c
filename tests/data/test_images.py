import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import image_from_bytes, image_from_file
from errors import UserError


def encoded(picture: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("kind", ["png", "bmp", "ppm", "tiff"])
def test_a_lossless_32x32_picture_comes_back_exactly(kind: str) -> None:
    picture = noise(32, 32)
    image = image_from_bytes(encoded(picture, kind), "picture")
    assert image.dtype == np.uint8
    assert image.shape == (3, 32, 32)
    assert image.flags.c_contiguous
    assert np.array_equal(image.transpose(1, 2, 0), np.asarray(picture))


def test_channels_are_red_green_blue() -> None:
    image = image_from_bytes(encoded(Image.new("RGB", (32, 32), (10, 20, 30))), "picture")
    assert [channel.max() for channel in image] == [10, 20, 30]


def test_another_size_is_cut_to_its_central_square() -> None:
    """A wide picture has red, green and blue thirds, of which only the green one is in the centre."""
    stripes = np.zeros((64, 192, 3), np.uint8)
    for third in range(3):
        stripes[:, 64 * third : 64 * (third + 1), third] = 255
    for pixels in (stripes, stripes.transpose(1, 0, 2)):
        image = image_from_bytes(encoded(Image.fromarray(pixels)), "picture")
        assert image.shape == (3, 32, 32)
        assert (image[:, 4:-4, 4:-4] == np.array([0, 255, 0])[:, None, None]).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 31), (300, 20)])
def test_any_size_becomes_32x32(size: tuple[int, int]) -> None:
    assert image_from_bytes(encoded(noise(*size)), "picture").shape == (3, 32, 32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        encoded(noise(32, 32))[:100],
        encoded(noise(32, 32))[:-300],
        encoded(noise(64, 64), "jpeg")[:-300],
    ],
    ids=["empty", "text", "png header", "truncated png", "truncated jpeg"],
)
def test_what_is_no_picture_is_named(content: bytes) -> None:
    with pytest.raises(UserError, match="the source is not a readable image: remove or replace it"):
        image_from_bytes(content, "the source")


def test_a_decompression_bomb_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="the source is too large an image"):
        image_from_bytes(encoded(noise(32, 32)), "the source")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.png cannot be read"):
        image_from_file(tmp_path / "absent.png")
