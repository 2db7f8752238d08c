"""What every runtime is to its callers.

A runtime is opened on one artifact and then turns normalised images into logits. This base owns the
lifecycle and the checks of what goes in and comes out; an adapter adds four hooks. What was asked
for runs, or opening it is a `UserError` that says what is missing: nothing falls back.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError
from graphs.card import Batch, GraphCard
from graphs.onnx_file import card_from_file
from machine.cpu import adds_products_in_16_bits, available_threads


def infer_in_batches(runtime: "Runtime", batches: Iterable[Batch], size: int) -> Batch:
    """Logits float32 [N, classes] of batches of at most `size` images, one after another.

    A smaller one is filled up with its own images: some runtimes compile for each batch size.
    """
    parts = [runtime.infer(np.resize(images, (size, *images.shape[1:])))[: len(images)] for images in batches]
    return np.concatenate(parts)


def require_sums_that_fit(name: str, saturation: str) -> None:
    """Refuse weights of the full 8 bits where sums of their products overflow.

    Args:
        name: of what has them.
        saturation: see `GraphCard`.

    Raises:
        UserError: they are, and this CPU adds products in 16 bits.
    """
    if saturation == "full" and adds_products_in_16_bits():
        raise UserError(
            f"{name} has weights of the full 8 bits, and this CPU has no VNNI: sums of its products "
            "overflow 16 bits",
            "calibrate with --saturation stem or proved, or insist with --allow-saturation",
        )


class Runtime(ABC):
    """One artifact, opened for inference; a context manager.

    Args:
        path: the artifact.
        precision: a word of `Precision`, as asked for; opening fails if that is not what would run.
        device: "cpu" or "cuda".
        threads: CPU threads inside one call; all available cores if None.
        allow_saturation: open a graph whose weights take the full 8 bits on a CPU whose kernels add
            products in 16 bits, where its answers are wrong.
    """

    name: str
    #: (device, precision) pairs this runtime really computes in.
    supports: frozenset[tuple[str, str]]
    #: why another pair is refused, and what to use instead
    refusal = ("not offered by it", "see `python cli.py doctor`")
    #: flavours of ONNX files it is meant for
    flavours = frozenset({"any", "cpu"})
    #: whether it computes INT8 in integer kernels, which can saturate
    integer_kernels = True

    def __init__(
        self,
        path: Path,
        precision: str,
        device: str = "cpu",
        threads: int | None = None,
        allow_saturation: bool = False,
    ) -> None:
        if (device, precision) not in self.supports:
            reason, fix = self.refusal
            raise UserError(f"{self.name} cannot run {precision} on {device} ({reason})", fix)
        self.path = path
        self.precision = precision
        self.device = device
        self.threads = threads or available_threads()
        self.allow_saturation = allow_saturation
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
            ValueError: other type, rank, channel count or size, no images, or values that are not finite.
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
        # Some kernels turn NaN into 0 and codes saturate: finite logits would come of it.
        if not np.isfinite(images).all():
            raise ValueError("images that are not finite")
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

    def _checked_card(self) -> GraphCard:
        """The card of the ONNX file, if it was made for this runtime, precision and CPU.

        Raises:
            UserError: it was not, or is no file of skipfold's.
        """
        card = card_from_file(self.path)
        if card.precision != self.precision or card.flavour not in self.flavours:
            raise UserError(
                f"{self.path.name} is {card.precision} for {card.flavour}, and {self.name} was asked "
                f"for {self.precision} on {self.device}",
                "open the file made for this runtime",
            )
        if self.integer_kernels and not self.allow_saturation:
            require_sums_that_fit(self.path.name, card.saturation)
        return card

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
