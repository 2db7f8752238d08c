"""What an exported graph says of itself, in the ONNX metadata properties.

Each key stands under `skipfold.`; everything a consumer needs to feed the network and read its
answer (classes, mean, std) is there, so the file alone is enough.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabulary import Flavour, Precision

PREFIX = "skipfold."
INPUT = "images"
OUTPUT = "logits"
# Normalised images [N, C, H, W], or logits [N, classes].
Batch = NDArray[np.float32]

FLAVOURS = tuple(Flavour)
PRECISIONS = tuple(Precision)


@dataclass(frozen=True)
class GraphCard:
    """Metadata of one ONNX file.

    Attributes:
        classes: names in the order of the logits.
        mean, std: per channel, of pixels in 0..1; the input is (pixel - mean) / std.
        checkpoint: sha256 of the weights it was exported from.
        precision: one of `PRECISIONS`.
        flavour: `gpu` (symmetric int8 or E4M3, for TensorRT), `rtx` (the same for TensorRT for RTX),
            `cpu` (uint8 activations, for ONNX Runtime, and OpenVINO runs it, too), `openvino` or `any`
            (no quantization).
        saturation: of the flavours for CPUs, which weights are kept small enough for 16-bit sums of two
            products: those whose input has large codes throughout ("stem"), all ("proved") or none
            ("full"); empty for all other files.
        float_convolutions: how many convolutions of a quantized graph are left in float.
    """

    variant: str
    depth: int
    block: str
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained: bool
    checkpoint: str
    precision: str = "fp32"
    flavour: str = "any"
    saturation: str = ""
    float_convolutions: int = 0

    def with_precision(
        self, precision: str, flavour: str = "any", saturation: str = "", float_convolutions: int = 0
    ) -> "GraphCard":
        """The same network in another precision."""
        return replace(
            self,
            precision=precision,
            flavour=flavour,
            saturation=saturation,
            float_convolutions=float_convolutions,
        )

    def to_properties(self) -> dict[str, str]:
        """As ONNX metadata properties; values are JSON."""
        return {PREFIX + f.name: json.dumps(getattr(self, f.name)) for f in fields(self)}

    def is_same_network(self, other: "GraphCard") -> bool:
        """Whether both come from the same weights, in whatever precision."""
        return self.with_precision("fp32") == other.with_precision("fp32")


def card_from_properties(properties: Mapping[str, str]) -> GraphCard:
    """Read the card back.

    Raises:
        ValueError: a key is missing or is not JSON.
    """
    values: dict[str, Any] = {}
    for entry in fields(GraphCard):
        key = PREFIX + entry.name
        if key not in properties:
            raise ValueError(f"no {key} in its metadata")
        value = json.loads(properties[key])
        values[entry.name] = tuple(value) if isinstance(value, list) else value
    return GraphCard(**values)
