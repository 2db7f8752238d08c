"""How a float32 graph is quantized, beside its ranges."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError

# Raised when a scheme comes to make another graph of the same ranges: graphs made before are then redone.
FORMAT = 2
# The skip path of each flavour.
STREAMS = {
    "cpu": ("int8", "fp32"),
    "openvino": ("int8", "fp32"),
    "gpu": ("int8", "fp16", "fp32"),
    "rtx": ("fp16",),
}
_FOR_CPUS = ("cpu", "openvino")
PRECISIONS = ("int8", "fp8")
SATURATIONS = ("stem", "proved", "full")
DEFAULT_SATURATION = "stem"


@dataclass(frozen=True)
class Scheme:
    """One kind of Q/DQ graph; see `calibration.quantizing.qdq`.

    Attributes:
        flavour: "cpu", "openvino", "gpu" or "rtx".
        precision: "int8", or "fp8" in the gpu and rtx flavours.
        stream: precision of the skip path, one of `STREAMS`; that of an fp8 graph is fp16.
        saturation: which weights are kept from overflowing 16 bits, one of `SATURATIONS`; of the
            flavours for CPUs alone.
        correct_bias: take the mean of the weights' rounding error out of the biases.
        float_blocks: names of the Adds of the blocks that are left in float.

    Raises:
        UserError: the flavour does not have the stream.
        ValueError: there is no such flavour, precision or saturation, or no such fp8 graph.
    """

    flavour: str
    precision: str = "int8"
    stream: str = "int8"
    saturation: str = DEFAULT_SATURATION
    correct_bias: bool = True
    float_blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("flavour", self.flavour, STREAMS)
        _require("precision", self.precision, PRECISIONS)
        _require("saturation", self.saturation, SATURATIONS)
        if self.stream not in STREAMS[self.flavour]:
            raise UserError(
                f"the {self.flavour} flavour has no {self.stream} stream",
                f"use --stream {' or '.join(STREAMS[self.flavour])}",
            )
        if self.precision == "fp8" and (self.is_for_cpus or self.stream != "fp16"):
            raise ValueError(f"fp8 is of gpu with an fp16 stream, not {self.flavour} with {self.stream}")

    @property
    def is_for_cpus(self) -> bool:
        """Whether the graph runs in integer kernels of a CPU."""
        return self.flavour in _FOR_CPUS

    def to_json(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        fields = asdict(self) | {"float_blocks": list(self.float_blocks), "format": FORMAT}
        if not self.is_for_cpus:
            del fields["saturation"]
        return fields


def _require(what: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ValueError(f"{what} '{value}' is none of {', '.join(known)}")


# The schemes of the FP8 graphs and of the graphs for TensorRT for RTX, but for what a plan sets.
FP8 = Scheme("gpu", precision="fp8", stream="fp16")
RTX = Scheme("rtx", stream="fp16")
RTX_FP8 = Scheme("rtx", precision="fp8", stream="fp16")
