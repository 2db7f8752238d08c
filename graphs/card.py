"""The card of an ONNX file: what skipfold writes into the file's metadata properties.

Every key begins with `skipfold.` and every value is JSON. The card holds the classes, the mean and the
standard deviation, so a program needs nothing but the file to feed the network and to read the logits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.json_codec import from_json
from vocabulary import Flavour, Interface, Precision

PREFIX = "skipfold."
INPUT = "images"
OUTPUT = "logits"
PROBABILITIES = "probabilities"
# Normalised images [N, C, H, W], logits [N, classes] or probabilities [N, classes].
Batch = NDArray[np.float32]
# Pixels [N, H, W, C], which a graph normalises itself.
Pixels = NDArray[np.uint8]


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
        interface: what the graph takes and gives. The file says so only of a graph that takes pixels.
        batch: how many pictures the graph takes at a time; 0 is any number. The file says so only of a graph
            of one batch size.
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
    interface: Interface = Interface.logits
    batch: int = 0

    @property
    def takes_pixels(self) -> bool:
        """Whether the graph takes pixels and gives probabilities."""
        return self.interface == Interface.probabilities

    @property
    def output(self) -> str:
        """The name of the graph's output."""
        return PROBABILITIES if self.takes_pixels else OUTPUT

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

    def adapted(self, takes_pixels: bool, batch: int) -> "GraphCard":
        """Return the card of the same graph with another input; see `export.adapted_graph`."""
        interface = Interface.probabilities if takes_pixels else self.interface
        return replace(self, interface=interface, batch=batch)

    def to_properties(self) -> dict[str, str]:
        """Return the fields as ONNX metadata properties, whose values are JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            PREFIX + name: json.dumps(value) for name, value in values.items() if _UNSAID.get(name) != value
        }

    def is_same_network(self, other: "GraphCard") -> bool:
        """Tell whether both graphs hold the same weights, whatever their precision and their interface."""
        return self._network() == other._network()

    def _network(self) -> "GraphCard":
        return replace(self.with_precision(Precision.fp32), **_UNSAID)


# What a file does not say of itself: files were written before there were other values.
_UNSAID: Mapping[str, Any] = {"interface": Interface.logits, "batch": 0}


def card_from_properties(properties: Mapping[str, str]) -> GraphCard:
    """Read the card from the metadata properties of an ONNX file.

    Raises:
        ValueError: a key is missing, or its value is not JSON.
    """
    values = {}
    for entry in fields(GraphCard):
        key = PREFIX + entry.name
        if key in properties:
            values[entry.name] = json.loads(properties[key])
        elif entry.name not in _UNSAID:
            raise ValueError(f"no {key} in the metadata")
    return from_json(GraphCard, values)
