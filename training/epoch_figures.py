"""Loss, accuracy and speed of the current epoch, read without making the device wait."""

import math
import time

import torch
from torch import Tensor

from training.processes import Processes


class EpochFigures:
    """The sums of loss and correct answers over the steps of one epoch.

    The sums lie on the device. `text` and `is_finite` read copies that were sent to the host without waiting
    and are one step old or older. Only the properties that are read after the epoch wait for the device.

    Args:
        steps: the number of steps of the epoch.
        processes: the processes whose sums `gather` adds up.
    """

    def __init__(self, steps: int, device: torch.device, processes: Processes) -> None:
        self._processes = processes
        self._losses = torch.zeros(steps, device=device)
        self._correct = torch.zeros((), device=device)
        self._steps = self._seen = 0
        self._started = time.perf_counter()
        on_gpu = device.type == "cuda"
        self._copy = torch.zeros(2, pin_memory=on_gpu)
        self._arrival = torch.cuda.Event() if on_gpu else None
        # How many steps and images the copy on its way covers; and what arrived last: steps, images, sum of
        # the losses, correct answers.
        self._copied = (0, 0)
        self._arrived = (0, 0, 0.0, 0.0)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one step with its loss (a scalar), logits [N, classes] and labels [N]."""
        self._losses[self._steps] = loss.detach()
        self._correct += (logits.detach().argmax(1) == labels).sum()
        self._steps += 1
        self._seen += len(labels)
        if self._arrival is None or self._arrival.query():
            self._arrived = (*self._copied, *self._copy.tolist())
            self._copied = (self._steps, self._seen)
            self._copy.copy_(torch.stack([self._losses.sum(), self._correct]), non_blocking=True)
            if self._arrival is not None:
                self._arrival.record()

    def gather(self) -> None:
        """Combine the sums of all processes after the epoch; each loss becomes a mean over the processes."""
        self._processes.add_up(self._losses)
        self._processes.add_up(self._correct)
        self._losses /= self._processes.count

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return self._losses.tolist()

    @property
    def loss(self) -> float:
        """The mean loss over the steps of the epoch."""
        return float(self._losses.mean())

    @property
    def correct(self) -> int:
        """The number of images that were classified correctly in the step that trained on them."""
        return int(self._correct)

    @property
    def seconds(self) -> float:
        """The seconds since the epoch began."""
        return time.perf_counter() - self._started

    @property
    def is_finite(self) -> bool:
        """Whether all losses that have arrived on the host are finite."""
        return math.isfinite(self._arrived[2])

    def text(self) -> str:
        """Return loss and accuracy of this process and the images a second of all, for a progress bar."""
        steps, seen, loss, correct = self._arrived
        if not steps:
            return ""
        rate = self._seen * self._processes.count / self.seconds
        return f"loss {loss / steps:.3f}  accuracy {100 * correct / seen:.1f} %  {rate:,.0f} images/s"
