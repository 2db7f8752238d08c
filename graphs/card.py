"""The card of an ONNX file: what skipfold writes into the file's metadata properties.

Every key begins with `skipfold.` and every value is JSON. The card holds the classes, the mean and the
standard deviation, so a program needs nothing but the file to feed the network and to read the logits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from artifacts.json_codec import from_json
from vocabulary import Flavour, Precision

PREFIX = "skipfold."
INPUT = "images"
OUTPUT = "logits"
# Normalised images [N, C, H, W], or logits [N, classes].
Batch = NDArray[np.float32]


@dataclass(frozen=True)
class GraphCard:
    """The metadata of one ONNX file.

    Attributes:
        variant: "preact" or "original".
        depth: the number of layers, for example 20.
        block: "basic" or "bottleneck".
        dataset: the name of the data set whose classes the network tells apart.
        classes: the names of the classes, in the order of the logits.
        mean: the mean of each channel, of pixels in 0..1; the network takes (pixel - mean) / std.
        std: the standard deviation of each channel, likewise.
        trained: False if the weights are those of a freshly initialised network.
        checkpoint: the sha256 of the weights file that the graph was exported from.
        precision: the type that the convolutions compute in.
        flavour: the runtime that the graph was quantized for. `gpu` graphs have symmetric int8 or E4M3
            codes, for TensorRT, and `rtx` graphs have the same codes, for TensorRT for RTX. `cpu` graphs
            have uint8 activations, for ONNX Runtime; OpenVINO runs them, too. `openvino` graphs are for
            OpenVINO alone. `any` graphs are not quantized.
        saturation: which weights of a `cpu` or `openvino` graph are small enough that no sum of two
            products overflows 16 bits: "stem" for those whose input has large codes throughout,
            "proved" for all, "full" for none. The field is empty in all other files.
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
    precision: Precision = Precision.fp32
    flavour: Flavour = Flavour.any
    saturation: str = ""
    float_convolutions: int = 0

    def with_precision(
        self,
        precision: str,
        flavour: str = Flavour.any,
        saturation: str = "",
        float_convolutions: int = 0,
    ) -> "GraphCard":
        """Return the card of the same network in another precision."""
        return replace(
            self,
            precision=Precision(precision),
            flavour=Flavour(flavour),
            saturation=saturation,
            float_convolutions=float_convolutions,
        )

    def to_properties(self) -> dict[str, str]:
        """Return the fields as ONNX metadata properties, whose values are JSON."""
        return {PREFIX + f.name: json.dumps(getattr(self, f.name)) for f in fields(self)}

    def is_same_network(self, other: "GraphCard") -> bool:
        """Tell whether both graphs hold the same weights, in whatever precision."""
        return self.with_precision(Precision.fp32) == other.with_precision(Precision.fp32)


def card_from_properties(properties: Mapping[str, str]) -> GraphCard:
    """Read the card from the metadata properties of an ONNX file.

    Raises:
        ValueError: a key is missing, or its value is not JSON.
    """
    values = {}
    for entry in fields(GraphCard):
        key = PREFIX + entry.name
        if key not in properties:
            raise ValueError(f"no {key} in the metadata")
        values[entry.name] = json.loads(properties[key])
    return from_json(GraphCard, values)
