"""Put the normalisation before a network and the softmax behind it: pixels in, probabilities out.

    images [batch, C, H, W] float32 normalised  ->  images [batch, H, W, C] uint8
    logits [batch, classes] float32             ->  probabilities [batch, classes] float32

The new nodes compute what `data.dataset.normalised` computes, in the same order and in float32:

    Cast(images) -> Transpose (0, 3, 1, 2) -> Mul scale -> Sub shift -> the network -> Softmax

No Resize stands in the graph, because OpenVINO ignores the operator's `antialias` without a word and
TensorRT for RTX refuses it: whoever feeds the graph crops and resizes pictures before.

Precondition: one input "images", float32 [batch, C, H, W] with C, H and W known, and one output "logits",
float32 [batch, classes].
Postcondition: the input and the output are those of the table above, and every reader of the normalised
images reads what the new nodes compute.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import InvariantError

from graphs.card import INPUT, OUTPUT, PROBABILITIES
from graphs.onnx_file import initializer
from graphs.outputs import follow_output
from graphs.passes import GraphPass, PassResult

# The names begin with a word that quantization does not use: its scale of the input is "images.scale".
_NEW = "pixels.cast", "pixels.nchw", "pixels.scaled", "pixels.normalised"


@dataclass(frozen=True)
class Uint8Input(GraphPass):
    """Let a graph take pixels and give probabilities; the result names the nodes that were put in.

    Attributes:
        scale: what the pixels of each channel are multiplied with, float32 [C].
        shift: what is then subtracted from each channel, float32 [C]; both are
            `data.dataset.scale_and_shift`.
    """

    name = "uint8_input"
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]

    def requires(self, graph: ir.Model) -> None:
        """Require normalised float32 images of as many channels as there are scales, and float32 logits."""
        _require_one(graph.graph.inputs, INPUT, rank=4)
        _require_one(graph.graph.outputs, OUTPUT, rank=2)
        (channels,) = self.scale.shape
        shape = _shape(graph.graph.inputs[0])
        if shape[1] != channels or not all(isinstance(size, int) for size in shape[1:]):
            raise InvariantError(f"{INPUT} has shape {shape}, and there are scales of {channels} channels")

    def interface_after(self, graph: ir.Model) -> tuple[str, ...]:
        """Promise pixels in the place of normalised images, and probabilities in the place of logits."""
        batch, channels, height, width = _shape(graph.graph.inputs[0])
        classes = graph.graph.outputs[0].shape
        return (
            f"input {INPUT} UINT8 [{batch},{height},{width},{channels}]",
            f"output {PROBABILITIES} FLOAT {classes}",
        )

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Put four nodes before the readers of the images and one behind the logits."""
        self._normalise_inside(graph)
        follow_output(graph.graph, "Softmax", {"axis": 1}, PROBABILITIES)
        return self.result([*_NEW, PROBABILITIES])

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that only the Cast reads the pixels, and that something reads what the new nodes compute."""
        readers = [node.op_type for node, _ in graph.graph.inputs[0].uses()]
        if readers != ["Cast"]:
            raise InvariantError(f"{INPUT} is read by {readers}")
        normalised = next(node for node in graph.graph if node.name == _NEW[-1])
        if not normalised.outputs[0].uses():
            raise InvariantError("nothing reads the normalised images")

    def _normalise_inside(self, graph: ir.Model) -> None:
        pixels = graph.graph.inputs[0]
        batch, channels, height, width = _shape(pixels)
        readers, first = list(pixels.uses()), next(iter(graph.graph))
        pixels.type = ir.TensorType(ir.DataType.UINT8)
        pixels.shape = ir.Shape([batch, height, width, channels])
        scale = initializer(graph.graph, "pixels.scale", self.scale.reshape(1, -1, 1, 1))
        shift = initializer(graph.graph, "pixels.shift", self.shift.reshape(1, -1, 1, 1))
        cast, nchw, scaled, normalised = _NEW
        nodes = [
            ir.node("Cast", [pixels], {"to": int(ir.DataType.FLOAT)}, name=cast),
            ir.node("Transpose", [pixels], {"perm": [0, 3, 1, 2]}, name=nchw),
            ir.node("Mul", [pixels, scale], name=scaled),
            ir.node("Sub", [pixels, shift], name=normalised),
        ]
        for before, node in itertools.pairwise(nodes):
            node.replace_input_with(0, before.outputs[0])
        for node in nodes:
            node.outputs[0].name = node.name
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            node.outputs[0].shape = ir.Shape([batch, channels, height, width])
        nodes[0].outputs[0].shape = pixels.shape
        graph.graph.insert_before(first, nodes)
        for reader, index in readers:
            reader.replace_input_with(index, nodes[-1].outputs[0])


def _require_one(values: Sequence[ir.Value], name: str, rank: int) -> None:
    """Require one float32 tensor of this name and rank."""
    names = [value.name for value in values]
    if names != [name]:
        raise InvariantError(f"the graph has {names} in the place of ['{name}']")
    value = values[0]
    if value.dtype != ir.DataType.FLOAT or value.shape is None or len(value.shape) != rank:
        raise InvariantError(f"{name} is {value.dtype} {value.shape}, not float32 of {rank} dimensions")


def _shape(value: ir.Value) -> list[int | str | None]:
    """Return the sizes of a tensor, with the names of the symbolic sizes."""
    assert value.shape is not None
    return [size if isinstance(size, int) else size.value for size in value.shape]
