"""The accuracy of a network on one split of a data set, measured by one process or shared by several."""

import math

import torch
from torch import nn

from data.dataset import Dataset, Split
from training.processes import Processes

_EVALUATION_BATCH = 500
_ALONE = Processes()


def accuracy_of(model: nn.Module, dataset: Dataset, split: Split, processes: Processes = _ALONE) -> float:
    """Return the top-1 accuracy in percent, computed in float32 with the network in evaluation mode.

    Each process evaluates every `processes.count`-th batch of 500 images, and all of them return the accuracy
    on the whole split.

    Args:
        model: maps normalised images [N, C, H, W] to logits [N, classes].
        dataset: gives the mean and standard deviation that the images are normalised with.

    Returns:
        A number from 0 to 100, or nan if a logit is not finite.
    """
    device = next(model.parameters()).device
    model.eval()
    correct, broken = torch.zeros(2, dtype=torch.int64, device=device)
    with torch.no_grad():
        batches = range(0, len(split), _EVALUATION_BATCH)
        for start in batches[processes.rank :: processes.count]:
            part = slice(start, start + _EVALUATION_BATCH)
            images = torch.from_numpy(dataset.normalised(split.images[part])).to(device)
            logits = model(images.to(memory_format=torch.channels_last))
            correct += (logits.argmax(1) == torch.from_numpy(split.labels[part]).to(device)).sum()
            broken += (~logits.isfinite()).sum()
    processes.add_up(correct)
    processes.add_up(broken)
    return math.nan if broken else 100 * int(correct) / len(split)
