"""The base class of all runtimes, which load one artifact and turn normalised images into logits.

The base class owns the lifecycle and checks the images that go in and the logits that come out; an adapter
adds four hooks. An artifact whose card says so takes pixels and gives probabilities instead. A runtime
computes in the precision and on the device that were asked for, or raises a `UserError` that says what is
missing. No runtime falls back to another precision or device.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError
from graphs.card import Batch, GraphCard, Pixels
from graphs.onnx_file import card_from_file
from machine.cpu import available_threads
from runtimes.acceptance import require_made_for, require_sums_that_fit
from vocabulary import Device, Flavour, Precision

# Softmax in float32 rounds each of 10 to 100 probabilities by 6e-8 of it; logits, and probabilities of
# which one is missing, are further off than this.
_SUM_TOLERANCE = 1e-4


def infer_in_batches(runtime: "Runtime", batches: Iterable[Batch | Pixels], size: int) -> Batch:
    """Return the logits or the probabilities float32 [N, classes] of all images in `batches`, in order.

    Args:
        runtime: an open runtime.
        batches: batches of at most `size` images each.
        size: the number of images in each call. A smaller batch is filled up by repeating its images,
            because OpenVINO, for one, compiles the network again for each new batch size.
    """
    parts = [runtime.infer(np.resize(images, (size, *images.shape[1:])))[: len(images)] for images in batches]
    return np.concatenate(parts)


def parts_of(images: Batch, largest: int) -> list[Batch]:
    """Cut a batch that is larger than `largest` into parts of about one size, in order."""
    count = -(-len(images) // largest)
    return [np.ascontiguousarray(part) for part in np.array_split(images, count)]


def _input_of(card: GraphCard) -> tuple[np.dtype[Any], tuple[int, int, int]]:
    """Return the type of an artifact's images and the shape of one image."""
    if card.takes_pixels:
        return np.dtype(np.uint8), (IMAGE_SIZE, IMAGE_SIZE, len(card.mean))
    return np.dtype(np.float32), (len(card.mean), IMAGE_SIZE, IMAGE_SIZE)


@dataclass(frozen=True)
class LayerTime:
    """How long the device works on one layer of a network.

    Attributes:
        name: the layer, as the library calls it.
        ms: the mean of all calls that were profiled, in milliseconds.
    """

    name: str
    ms: float


class Runtime(ABC):
    """One artifact that is open for inference; a context manager.

    Args:
        path: the artifact.
            precision: the precision to compute in, for example "int8".
            device: "cpu" or "cuda".
        threads: the number of CPU threads of one call; None takes all available cores.
        allow_saturation: True opens a graph with full 8-bit weights even on a CPU whose kernels add two
            products in 16 bits, where the logits are wrong.
        cuda_graphs: whether a runtime that can capture its kernels in CUDA graphs does so; None captures.

    Raises:
        UserError: the runtime does not compute in this precision on this device.

    Attributes:
        name: the name of the engine, as `--engine` has it.
        title: the name of the library, for messages.
        supports: the pairs of device and precision that the runtime really computes in.
        refusal: why any other pair is refused, and what to use instead.
        flavours: the flavours of ONNX files that the runtime reads.
        integer_kernels: whether INT8 runs in integer kernels of a CPU, whose sums can saturate.
        settings: the options that an artifact is opened with, under the library's own names, apart from the
            number of threads. A bundle hands them on to programs in other languages.
    """

    name: str
    title: str
    supports: frozenset[tuple[Device, Precision]]
    refusal = ("the engine does not offer this pair", "see `python cli.py doctor`")
    flavours = frozenset({Flavour.any, Flavour.cpu})
    integer_kernels = True
    settings: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        path: Path,
        precision: str,
        device: str = Device.cpu,
        threads: int | None = None,
        allow_saturation: bool = False,
        cuda_graphs: bool | None = None,
    ) -> None:
        self.require_support(precision, device)
        self.path = path
        self.precision = Precision(precision)
        self.device = Device(device)
        self.threads = threads or available_threads()
        self.allow_saturation = allow_saturation
        self.cuda_graphs = cuda_graphs is not False
        self._card: GraphCard | None = None

    @classmethod
    def require_support(cls, precision: str, device: str) -> None:
        """Raise a `UserError` unless the runtime computes in this precision on this device."""
        if (device, precision) not in cls.supports:
            reason, fix = cls.refusal
            raise UserError(f"{cls.name} cannot run {precision} on {device} ({reason})", fix)

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
        """The card of the artifact; RuntimeError if the runtime is not open."""
        if self._card is None:
            raise RuntimeError(f"{self.name} is not open")
        return self._card

    def infer(self, images: Batch | Pixels) -> Batch:
        """Return the logits float32 [N, classes] of normalised images float32 [N, C, 32, 32].

        An artifact that takes pixels is given them as uint8 [N, 32, 32, C] and gives probabilities.
        Images and logits lie in host memory. The call returns when the logits are there, so its duration
        includes the copies to and from a device.

        Raises:
            ValueError: the images have another type, rank, channel count or size, there are none or not
                as many as the artifact takes at a time, or a value is not finite.
            CheckFailed: the logits have another shape, a logit is not finite, or the probabilities of an
                image do not sum to 1.
        """
        self._check_images(images)
        logits = self._infer(np.ascontiguousarray(images))
        self._check_logits(logits, len(images))
        return logits

    def device_ms(self, images: Batch) -> float | None:
        """Return how many milliseconds the device works on one batch, without the copies to and from it.

        The figure comes from CUDA events that are recorded around the execution. It is None where the
        runtime has no such clock, for example on a CPU.

        Raises:
            ValueError: the images are not what `infer` takes.
        """
        return None

    def layer_times(self, images: Batch, calls: int) -> list[LayerTime] | None:
        """Return how long each layer takes, in the order of execution, as the mean of `calls` calls.

        A profile slows the call down, so that its sum is larger than `device_ms`. The result is None where
        the runtime has no profile on the device.

        Raises:
            ValueError: the images are not what `infer` takes, or there are no calls.
            UserError: a runtime that has a profile reports no layers.
        """
        self._check_images(images)
        if calls < 1:
            raise ValueError(f"a profile needs at least one call, not {calls}")
        return self._layer_times(images, calls)

    def _check_images(self, images: Batch | Pixels) -> None:
        dtype, expected = _input_of(self.card)
        if images.dtype != dtype or images.shape[1:] != expected:
            sizes = ", ".join(map(str, expected))
            raise ValueError(
                f"{self.name} takes {dtype} [N, {sizes}], not {images.dtype} {list(images.shape)}"
            )
        if not len(images):
            raise ValueError(f"{self.name} was given no images")
        if self.card.batch and len(images) != self.card.batch:
            raise ValueError(
                f"{self.path.name} takes {self.card.batch} images at a time, and {len(images)} were given"
            )
        # Some kernels turn NaN into 0, and codes saturate, so that such images would give finite logits.
        if not np.isfinite(images).all():
            raise ValueError(f"{self.name} was given images that are not finite")

    def _check_logits(self, logits: Batch, images: int) -> None:
        classes = len(self.card.classes)
        if logits.shape != (images, classes) or logits.dtype != np.float32:
            raise CheckFailed(
                f"{self.name} gave {logits.dtype} {list(logits.shape)} for {images} images of "
                f"{classes} classes",
                f"make {self.path.name} again",
            )
        if not np.isfinite(logits).all():
            raise CheckFailed(
                f"{self.name} {self.precision} gave logits that are not finite",
                "the network overflows in this precision; use another --precision",
            )
        if self.card.takes_pixels and not np.allclose(logits.sum(1), 1, rtol=0, atol=_SUM_TOLERANCE):
            raise CheckFailed(
                f"{self.name} gave probabilities that do not sum to 1", f"make {self.path.name} again"
            )

    def _checked_card(self) -> GraphCard:
        """Return the card of the ONNX file, which must fit this runtime, the precision and the CPU.

        Raises:
            UserError: the file was made for something else, or skipfold did not write the file.
        """
        card = card_from_file(self.path)
        self._require_made_for_this(card)
        if self.integer_kernels and not self.allow_saturation:
            require_sums_that_fit(self.path.name, card.saturation)
        return card

    def _require_made_for_this(self, card: GraphCard) -> None:
        require_made_for(self.name, self.path.name, card, self.precision, self.flavours)

    def _require_integer(self, left_float: str, operators: Mapping[str, int], where: str = "") -> None:
        """Refuse a graph that quantizes more operators than the library runs in integers.

        Args:
            left_float: the kind of operators that the library left in float, for example "convolutions";
                empty if there are none.
            operators: how many operators the library runs of each kind or type, for the error.
            where: an addition to the error, for example " at batch 32".

        Raises:
            CheckFailed: `left_float` is not empty.
        """
        if left_float:
            raise CheckFailed(
                f"{self.title} runs {self.path.name} with float {left_float} ({dict(operators)}){where}",
                "calibrate again with this version of skipfold",
            )

    @abstractmethod
    def _open(self) -> GraphCard:
        """Load the artifact, check that it will run as asked, and return its card."""

    @abstractmethod
    def _infer(self, images: NDArray[Any]) -> Batch:
        """Return the logits of a batch that was checked."""

    def _layer_times(self, images: Batch, calls: int) -> list[LayerTime] | None:
        """Return the profile of a batch that was checked, or None where the runtime has none."""
        return None

    @abstractmethod
    def _close(self) -> None:
        """Release what `_open` took."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the version, the device and the evidence of what runs, as JSON values.

        The runtime must be open.
        """
