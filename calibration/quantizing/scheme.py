"""A scheme says how a float32 graph is quantized; the ranges say the rest."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from artifacts.json_codec import to_json
from errors import UserError
from vocabulary import Flavour, Precision, Saturation, Stream

# Each flavour can keep the skip path in these types; CPUs compute in no half precision.
STREAMS = {
    Flavour.cpu: (Stream.int8, Stream.fp32),
    Flavour.openvino: (Stream.int8, Stream.fp32),
    Flavour.gpu: (Stream.int8, Stream.fp16, Stream.fp32),
    Flavour.rtx: (Stream.fp16,),
}
DEFAULT_SATURATION = Saturation.stem
_FOR_CPUS = (Flavour.cpu, Flavour.openvino)


@dataclass(frozen=True)
class Scheme:
    """A scheme is one kind of Q/DQ graph; `calibration.quantizing.quantize` says what each looks like.

    Attributes:
        flavour: cpu, openvino, gpu or rtx.
        precision: int8, or fp8 in the gpu and rtx flavours.
        stream: type of the skip path, one of `STREAMS`; that of an fp8 graph is fp16.
        saturation: which weights are kept so small that no two products overflow 16 bits; only the
            flavours for CPUs read this.
        correct_bias: whether the mean of the weights' rounding error is taken out of the biases.
        float_blocks: names of the Adds of the blocks that are left in float.

    Raises:
        UserError: the flavour does not have the stream.
        ValueError: there is no such flavour, precision or saturation, or no such fp8 graph.
    """

    flavour: Flavour
    precision: Precision = Precision.int8
    stream: Stream = Stream.int8
    saturation: Saturation = DEFAULT_SATURATION
    correct_bias: bool = True
    float_blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("flavour", self.flavour, STREAMS)
        _require("precision", self.precision, [word for word in Precision if word.is_quantized])
        _require("saturation", self.saturation, list(Saturation))
        if self.stream not in STREAMS[self.flavour]:
            raise UserError(
                f"the {self.flavour} flavour has no {self.stream} stream",
                f"use --stream {' or '.join(STREAMS[self.flavour])}",
            )
        if self.precision == Precision.fp8 and (self.is_for_cpus or self.stream != Stream.fp16):
            raise ValueError(
                f"fp8 must be in the gpu or rtx flavour with an fp16 stream, "
                f"got {self.flavour} with {self.stream}"
            )

    @property
    def is_for_cpus(self) -> bool:
        """Tell whether the graph runs in integer kernels of a CPU."""
        return self.flavour in _FOR_CPUS

    def to_json(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        fields: dict[str, Any] = to_json(self)
        if not self.is_for_cpus:
            del fields["saturation"]
        return fields


def _require(what: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}, got '{value}'")


# These are the schemes of the FP8 graphs and of the graphs for TensorRT for RTX, of which a plan sets only
# `correct_bias` and `float_blocks`.
FP8 = Scheme(Flavour.gpu, precision=Precision.fp8, stream=Stream.fp16)
RTX = Scheme(Flavour.rtx, stream=Stream.fp16)
RTX_FP8 = Scheme(Flavour.rtx, precision=Precision.fp8, stream=Stream.fp16)
