"""The final layers of a plan: which kernels TensorRT chose, and what each of them reads and writes.

The network that TensorRT parses says what was asked for; only these layers say what a plan computes. Turing
shows the difference: every convolution of a parsed INT8 network is int8, and all of them run in float16.

A layer comes from one of two places, which `layers_from_message` and `layers_from_inspector` read. A plan
with several optimization profiles lists its layers once a profile.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

# Bytes of an element. TensorRT packs two elements of the 4-bit types into a byte.
ITEM_BYTES = {
    "float32": 4.0, "int32": 4.0, "int64": 8.0,
    "float16": 2.0, "bfloat16": 2.0,
    "int8": 1.0, "uint8": 1.0, "float8": 1.0, "bool": 1.0,
    "int4": 0.5, "float4": 0.5,
}  # fmt: skip
# Names that TensorRT has for these types in its lists of layers.
TYPE_NAMES = {
    "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "FP8": "float8",
    "Int8": "int8", "UInt8": "uint8", "Int32": "int32", "Int64": "int64", "Bool": "bool",
    "Int4": "int4", "FP4": "float4",
}  # fmt: skip
# What both lists of layers write into names and metadata.
NODE = re.compile(r"\[ONNX Layer: ([^\[\]]+)\]")
PROFILE = re.compile(r"\[profile (\d+)\]")
# Entries of the list that launch no kernel: they compute shapes, or let one CUDA stream wait for another.
_NO_KERNELS = {"shape_call", "signal", "wait", "NoOp"}


@dataclass(frozen=True)
class Tensor:
    """A tensor that a kernel reads or writes.

    Attributes:
        shape: -1 stands for the batch size.
        type: such as "float16"; a key of `ITEM_BYTES`.
        format: the order in memory, as TensorRT calls it, such as "NHWC" or "Linear".
    """

    name: str
    shape: tuple[int, ...]
    type: str
    format: str

    def bytes_at(self, batch: int) -> float:
        """Bytes of the tensor at a batch size, without any padding."""
        return math.prod(batch if size == -1 else size for size in self.shape) * ITEM_BYTES[self.type]


@dataclass(frozen=True)
class Layer:
    """One entry of the list of layers.

    Attributes:
        kind: TensorRT's type of layer, such as "correlation" (a convolution) or "kgen" (a generated kernel).
        profile: index of the optimization profile that the layer serves.
        inputs: tensors that other layers wrote, the data of a convolution first.
        constants: weights, biases and scales.
        tactic: TensorRT's name of the kernel; empty where the kernel is chosen at run time.
        nodes: names of the ONNX nodes whose work the layer does or shares.
    """

    name: str
    kind: str
    profile: int
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tactic: str
    nodes: tuple[str, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether the layer launches a kernel."""
        return self.kind not in _NO_KERNELS

    def bytes_read(self, batch: int) -> float:
        """Bytes that the kernel reads at a batch size: activations and constants."""
        return sum(tensor.bytes_at(batch) for tensor in (*self.inputs, *self.constants))

    def bytes_written(self, batch: int) -> float:
        """Bytes that the kernel writes at a batch size."""
        return sum(tensor.bytes_at(batch) for tensor in self.outputs)


@dataclass(frozen=True)
class Traffic:
    """What one run of a plan moves through memory, which bounds the speed of networks as small as these.

    Attributes:
        batch: number of images.
        profile: index of the optimization profile that serves this batch size.
        kernels: number of kernels that are launched.
        read_mb, written_mb: megabytes (10⁶ bytes) that the kernels read and write, counted as if no cache
            kept any of them.
    """

    batch: int
    profile: int
    kernels: int
    read_mb: float
    written_mb: float

    @property
    def moved_mb(self) -> float:
        """Megabytes read and written."""
        return self.read_mb + self.written_mb


def kernels_of(layers: Iterable[Layer], profile: int) -> Iterator[Layer]:
    """The layers of a profile that launch a kernel."""
    return (layer for layer in layers if layer.is_kernel and layer.profile == profile)


def traffic(layers: Iterable[Layer], profile: int, batch: int) -> Traffic:
    """Add up what the kernels of a profile move at a batch size."""
    kernels = list(kernels_of(layers, profile))
    return Traffic(
        batch=batch,
        profile=profile,
        kernels=len(kernels),
        read_mb=round(sum(kernel.bytes_read(batch) for kernel in kernels) / 1e6, 3),
        written_mb=round(sum(kernel.bytes_written(batch) for kernel in kernels) / 1e6, 3),
    )


def document_of_layers(layers: Iterable[Layer], batches: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """The layers as the JSON values of `engines/<name>.layers.json`.

    Args:
        batches: pairs of a profile and a batch size at which the bytes of the profile's layers are told.
    """
    sizes = [(profile, batch) for profile, batch in batches]
    return {"layers": [_entry(layer, [b for p, b in sizes if p == layer.profile]) for layer in layers]}


def layers_from_document(document: dict[str, Any]) -> tuple[Layer, ...]:
    """Read the layers back from the JSON values of `document_of_layers`.

    Raises:
        KeyError, TypeError: the document is of another form.
    """
    return tuple(_layer(entry) for entry in document["layers"])


def _entry(layer: Layer, batches: list[int]) -> dict[str, Any]:
    figures = {
        str(batch): {"read": round(layer.bytes_read(batch)), "written": round(layer.bytes_written(batch))}
        for batch in batches
    }
    return asdict(layer) | {"bytes": figures}


def _layer(entry: dict[str, Any]) -> Layer:
    fields = {name: value for name, value in entry.items() if name != "bytes"}
    for name in ("inputs", "constants", "outputs"):
        fields[name] = tuple(Tensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in fields[name])
    return Layer(**{**fields, "nodes": tuple(fields["nodes"])})
