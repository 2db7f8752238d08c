from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.augment import augmented, random_views

FILL = torch.tensor([11, 22, 33], dtype=torch.uint8)


def pictures(count: int, height: int = 6, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def viewed(images: Tensor, padding: int, flip: bool, fill: Tensor, generator: torch.Generator) -> Tensor:
    return augmented(images, padding, fill, random_views(len(images), padding, flip, generator))


def crops(image: Tensor, padding: int, flip: bool) -> dict[tuple[int, int, bool], np.ndarray]:
    """Return every crop and mirrored crop of one image, cut in numpy, by row, column and mirroring."""
    channels, height, width = image.shape
    padded = np.empty((channels, height + 2 * padding, width + 2 * padding), np.uint8)
    padded[:] = FILL.numpy()[:channels, None, None]
    padded[:, padding : padding + height, padding : padding + width] = image.numpy()
    by_view = {}
    for row, column in product(range(2 * padding + 1), repeat=2):
        crop = padded[:, row : row + height, column : column + width]
        by_view[row, column, False] = crop
        if flip:
            by_view[row, column, True] = crop[:, :, ::-1]
    return by_view


def drawn(image: Tensor, result: Tensor, padding: int, flip: bool) -> set[tuple[int, int, bool]]:
    """Return the views of `image` that equal `result`."""
    return {
        draw for draw, crop in crops(image, padding, flip).items() if np.array_equal(crop, result.numpy())
    }


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 6),
    height=st.integers(2, 6),
    width=st.integers(2, 6),
    padding=st.integers(0, 3),
    flip=st.booleans(),
    seed=st.integers(0, 999),
)
def test_every_image_is_a_crop_of_its_own_input(
    count: int, height: int, width: int, padding: int, flip: bool, seed: int
) -> None:
    images = pictures(count, height, width)
    result = viewed(images, padding, flip, FILL, seeded(seed))
    assert result.dtype == torch.uint8
    assert result.shape == images.shape
    for image, crop in zip(images, result, strict=True):
        assert drawn(image, crop, padding, flip)


def test_each_image_is_drawn_for_itself_and_every_crop_comes_up() -> None:
    images = pictures(1).expand(2000, -1, -1, -1)
    result = viewed(images, 1, True, FILL, seeded())
    counts: dict[tuple[int, int, bool], int] = {}
    for crop in result:
        (draw,) = drawn(images[0], crop, 1, True)
        counts[draw] = counts.get(draw, 0) + 1
    assert len(counts) == 3 * 3 * 2
    # Each of the 18 views is drawn 2000 / 18 = 111 times with a deviation of 10. The test allows five
    # deviations.
    assert min(counts.values()) > 60
    assert max(counts.values()) < 165


@pytest.mark.parametrize("padding", [0, 2])
def test_half_of_the_images_are_mirrored(padding: int) -> None:
    images = pictures(400)
    result = viewed(images, padding, True, FILL, seeded())
    mirrored = [next(iter(drawn(i, r, padding, True)))[2] for i, r in zip(images, result, strict=True)]
    assert 150 < sum(mirrored) < 250
    assert not any(
        draw[2]
        for image, crop in zip(images, viewed(images, padding, False, FILL, seeded()), strict=True)
        for draw in drawn(image, crop, padding, True)
    )


def test_padding_has_the_given_colour_of_each_channel() -> None:
    images = torch.full((300, 3, 4, 4), 200, dtype=torch.uint8)
    result = viewed(images, 2, False, FILL, seeded())
    for channel, colour in enumerate(FILL.tolist()):
        assert set(result[:, channel].unique().tolist()) == {colour, 200}
    # Three quarters of the pixels of a corner crop are padding, the same pixels in each channel.
    padded = result[:, 0] == 11
    assert padded.flatten(1).sum(1).max() == 12
    assert torch.equal(padded, result[:, 2] == 33)


def test_an_image_pixel_of_the_value_0_is_not_taken_for_padding() -> None:
    images = torch.zeros((50, 3, 4, 4), dtype=torch.uint8)
    result = viewed(images, 1, True, FILL, seeded())
    assert (result[:, :, 1:-1, 1:-1] == 0).all()


def test_no_padding_and_no_flip_is_the_identity() -> None:
    images = pictures(5)
    assert torch.equal(viewed(images, 0, False, FILL, seeded()), images)


def test_the_result_lies_in_channels_last_memory() -> None:
    for padding, flip in product((0, 2), (False, True)):
        result = viewed(pictures(4), padding, flip, FILL, seeded())
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_the_input_is_left_alone() -> None:
    images = pictures(5)
    before = images.clone()
    viewed(images, 2, True, FILL, seeded())
    assert torch.equal(images, before)


def test_the_generator_decides() -> None:
    images = pictures(20)
    torch.manual_seed(1)
    first = viewed(images, 2, True, FILL, seeded(3))
    torch.manual_seed(2)  # This generator must not be used.
    assert torch.equal(first, viewed(images, 2, True, FILL, seeded(3)))
    assert not torch.equal(first, viewed(images, 2, True, FILL, seeded(4)))
    generator = seeded(3)
    viewed(images, 2, True, FILL, generator)
    assert not torch.equal(first, viewed(images, 2, True, FILL, generator)), "the state moves on"


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels: int) -> None:
    images = torch.full((20, channels, 3, 3), 9, dtype=torch.uint8)
    fill = torch.arange(100, 100 + channels, dtype=torch.uint8)
    result = viewed(images, 1, True, fill, seeded())
    for channel in range(channels):
        assert set(result[:, channel].unique().tolist()) == {9, 100 + channel}


def test_a_part_of_the_views_gives_the_same_crops() -> None:
    images = pictures(7)
    views = random_views(7, 2, True, seeded())
    odd = slice(1, None, 2)
    assert torch.equal(
        augmented(images, 2, FILL, views)[odd], augmented(images[odd], 2, FILL, views.part(odd))
    )
