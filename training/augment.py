"""Random crops and mirrorings, drawn for each image and carried out for a whole batch at once."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Views(NamedTuple):
    """Which part of each padded image is taken, with one row for each image.

    Attributes:
        rows: int64 [N, 1], the first row of the crop in the padded image.
        columns: int64 [N, 1], the first column of the crop.
        mirrored: bool [N, 1], whether the crop is mirrored left to right.
    """

    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> "Views":
        """Return the same views on `device`."""
        return Views(*(draws.to(device) for draws in self))

    def part(self, which: slice) -> "Views":
        """Return the views of the images that `which` selects."""
        return Views(*(draws[which] for draws in self))


def random_views(count: int, padding: int, flip: bool, generator: torch.Generator) -> Views:
    """Draw a crop for each of `count` images, and with `flip` mirror each with probability one half."""
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.zeros(count, 1, dtype=torch.bool)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
    return Views(offsets[0], offsets[1], mirrored)


def augmented(images: Tensor, padding: int, fill: Tensor, views: Views) -> Tensor:
    """Crop and mirror every image by the view that was drawn for it.

    Args:
        images: uint8 [N, C, H, W].
        padding: pixels added on each side before an HxW crop is taken.
        fill: uint8 [C], the colour of the padding.
        views: N views that `random_views` drew for this padding, on the device of the images.

    Returns:
        uint8 [N, C, H, W] in channels_last memory.
    """
    count, channels, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding,) * 4)
    if padding:
        frame = functional.pad(images.new_ones(1, 1, height, width), (padding,) * 4) == 0
        padded = torch.where(frame, fill.view(1, channels, 1, 1), padded)
    rows = views.rows + torch.arange(height, device=device)
    columns = views.columns + torch.arange(width, device=device)
    columns = torch.where(views.mirrored, columns.flip(1), columns)
    pick = torch.arange(count, device=device).view(-1, 1, 1)
    # Indexing around the channel axis puts the channels last, which is the layout that convolutions prefer.
    return padded[pick, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
