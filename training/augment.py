"""Random crop and flip, drawn for each image and done for a whole batch at once."""

import torch
from torch import Tensor
from torch.nn import functional


def augmented(images: Tensor, padding: int, flip: bool, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Crop and mirror each image on its own.

    Args:
        images: uint8 [N, C, H, W].
        padding: pixels added on each side before an HxW crop is taken.
        flip: mirror each image left to right with probability one half.
        fill: uint8 [C], the colour of the padding.
        generator: of the random draws, on the CPU.

    Returns:
        uint8 [N, C, H, W] in channels_last memory.
    """
    count, channels, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding,) * 4)
    if padding:
        frame = functional.pad(images.new_ones(1, 1, height, width), (padding,) * 4) == 0
        padded = torch.where(frame, fill.view(1, channels, 1, 1), padded)
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator).to(device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.arange(width, device=device)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator).to(device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    pick = torch.arange(count, device=device).view(-1, 1, 1)
    # Indexing around the channel axis moves it last, which is the layout convolutions want.
    return padded[pick, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
