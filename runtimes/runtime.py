"""What every runtime is to its callers.

A runtime is opened on one artifact and then turns normalised images into logits. This base owns the
lifecycle and the checks of what goes in and comes out; an adapter adds four hooks. What was asked
for runs, or opening it is a `UserError` that says what is missing: nothing falls back.
"""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError
from graphs.card import GraphCard

Batch = NDArray[np.float32]


def available_threads() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Runtime(ABC):
    """One artifact, opened for inference; a context manager.

    Args:
        path: the artifact.
        precision: one of `PRECISIONS`, as asked for; opening fails if that is not what would run.
        device: "cpu" or "cuda".
        threads: CPU threads inside one call; all available cores if None.
    """

    name: str
    #: (device, precision) pairs this runtime really computes in.
    supports: frozenset[tuple[str, str]]
    #: why another pair is refused, and what to use instead
    refusal = ("not offered by it", "see `python cli.py doctor`")

    def __init__(self, path: Path, precision: str, device: str = "cpu", threads: int | None = None) -> None:
        if (device, precision) not in self.supports:
            reason, fix = self.refusal
            raise UserError(f"{self.name} cannot run {precision} on {device} ({reason})", fix)
        self.path = path
        self.precision = precision
        self.device = device
        self.threads = threads or available_threads()
        self._card: GraphCard | None = None

    def __enter__(self) -> Self:
        self._card = self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        self._card = None

    @property
    def card(self) -> GraphCard:
        """What the artifact says of itself; RuntimeError if the runtime is not open."""
        if self._card is None:
            raise RuntimeError(f"{self.name} is not open")
        return self._card

    def infer(self, images: Batch) -> Batch:
        """Normalised images float32 [N, C, 32, 32] -> logits float32 [N, classes], on the host.

        Returns when the result is there, copies to and from a device included.

        Raises:
            ValueError: other type, rank, channel count or size, or no images.
            CheckFailed: the logits have another shape or are not finite.
        """
        card = self.card
        expected = (len(card.mean), IMAGE_SIZE, IMAGE_SIZE)
        if images.dtype != np.float32 or images.shape[1:] != expected:
            sizes = ", ".join(map(str, expected))
            raise ValueError(
                f"{self.name} takes float32 [N, {sizes}], not {images.dtype} {list(images.shape)}"
            )
        if not len(images):
            raise ValueError("no images")
        logits = self._infer(np.ascontiguousarray(images))
        if logits.shape != (len(images), len(card.classes)) or logits.dtype != np.float32:
            raise CheckFailed(
                f"{self.name} gave {logits.dtype} {list(logits.shape)} for {len(images)} images of "
                f"{len(card.classes)} classes",
                f"make {self.path.name} again",
            )
        if not np.isfinite(logits).all():
            raise CheckFailed(
                f"{self.name} {self.precision} gave logits that are not finite",
                "the network overflows in this precision; use another",
            )
        return logits

    @abstractmethod
    def _open(self) -> GraphCard:
        """Load the artifact, check that it will run as asked, and return its card."""

    @abstractmethod
    def _infer(self, images: Batch) -> Batch:
        """Run a checked batch."""

    @abstractmethod
    def _close(self) -> None:
        """Release what `_open` took."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Version, device and evidence of what really runs; JSON values. Only while open."""
