"""The streams of a float graph, values that identity skips join, and what can be done to them exactly.

Within a stage x_{l+1} = x_l + F_l(x_l), with a ReLU on it in an original network. A stream begins
behind the stem or behind the projection of a stage's first block. Two changes keep the network's
function, for each channel:

    shift   y_l = x_l + d_l     d_0 goes into the bias of the stem or projection, d_{l+1} - d_l into
                                the bias of F_l's last convolution, -d_l into the BN that reads y_l
    scale   y_l = s x_l, s > 0  the convolutions that write the stream are multiplied by s, what reads
                                it is divided by s: BN's slope, or the weights behind a ReLU

A shift needs a BN as the only reader: behind a ReLU or at a zero-padded border it would not be exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from errors import CheckFailed
from graphs.onnx_file import add_to_bias, constant, replace_constant
from graphs.skip_path import junctions

# Between the stream and weights, these let a positive factor through.
_HOMOGENEOUS = {"Relu", "GlobalAveragePool", "Flatten"}


@dataclass(frozen=True)
class Stream:
    """Values x_0 ... x_n of one shape that identity skips join, in order of execution.

    Attributes:
        values: x_l; in an original network, behind the ReLU.
        writers: for each value, the convolutions whose outputs are added into it: the stem, or the
            projection and F's last one, for x_0; F's last one for the others.
    """

    values: tuple[ir.Value, ...]
    writers: tuple[tuple[ir.Node, ...], ...]

    @property
    def channels(self) -> int:
        """Channels of every x_l."""
        return len(constant(self.writers[0][0].inputs[1]))

    @property
    def scaled(self) -> tuple[ir.Value, ...]:
        """All tensors that share the factor of a channel: x_l, and what is added into it."""
        added = (conv.outputs[0] for writers in self.writers for conv in writers)
        return tuple(dict.fromkeys((*self.values, *added)))

    def readers(self, index: int) -> list[ir.Node]:
        """Nodes that read x_index for a residual branch, a projection or the head."""
        adds = {_add_behind(value) for value in self.values}
        return [node for node, _ in self.values[index].uses() if node not in adds]

    def batchnorm(self, index: int) -> ir.Node | None:
        """The BN that alone reads x_index, if that is so."""
        readers = self.readers(index)
        return readers[0] if [node.op_type for node in readers] == ["BatchNormalization"] else None

    def shift(self, graph: ir.Graph, shifts: Sequence[NDArray[np.float64]]) -> None:
        """Add shifts[l] [channels] to x_l, which must be zero where no BN alone reads x_l."""
        before = np.zeros_like(shifts[0])
        for index, (shift, writers) in enumerate(zip(shifts, self.writers, strict=True)):
            # Where nothing is added, a convolution without a bias gets none.
            if (change := shift - before).any():
                add_to_bias(graph, writers[0], change)
            if shift.any():
                bn = self.batchnorm(index)
                assert bn is not None
                replace_constant(bn.inputs[3], constant(bn.inputs[3]) + shift)
            before = shift

    def scale(self, factors: NDArray[np.float64]) -> None:
        """Multiply every x_l by positive factors [channels]."""
        for index, writers in enumerate(self.writers):
            for conv in writers:
                for parameter in conv.inputs[1:]:
                    array = constant(parameter)
                    replace_constant(parameter, array * factors.reshape(-1, *[1] * (array.ndim - 1)))
            for node in self.readers(index):
                divide_input(node, factors)


def divide_input(node: ir.Node, factors: NDArray[np.float64]) -> None:
    """Make a node take its input times positive factors [channels] without a change of its output.

    Raises:
        ValueError: an operator that cannot.
    """
    if node.op_type in _HOMOGENEOUS and not node.outputs[0].is_graph_output():
        for reader, _ in node.outputs[0].uses():
            divide_input(reader, factors)
    elif node.op_type == "BatchNormalization":
        replace_constant(node.inputs[1], constant(node.inputs[1]) / factors)
        replace_constant(node.inputs[3], constant(node.inputs[3]) * factors)
    elif _has_input_axis(node):
        weight = constant(node.inputs[1])
        replace_constant(node.inputs[1], weight / factors.reshape(1, -1, *[1] * (weight.ndim - 2)))
    else:
        raise ValueError(f"{node.op_type} {node.name} does not let a factor through")


def _has_input_axis(node: ir.Node) -> bool:
    """Whether a node multiplies its input by a weight [out, in, ...]."""
    if node.op_type == "Conv":
        return node.attributes.get_int("group", 1) == 1
    return node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1


def streams_of(model: ir.Model) -> list[Stream]:
    """Every stream of a float graph, in order of execution.

    Raises:
        CheckFailed: the graph is no chain of residual blocks that convolutions end.
    """
    found: list[Stream] = []
    for junction in junctions(model):
        start = junction.stream
        end = _behind_relu(junction.add.outputs[0])
        # The projection, if there is one, and the last convolution of F.
        writers = _writers(end, *junction.skip[-1:], junction.residual[-1])
        if junction.skip:
            found.append(Stream((end,), (writers,)))
            continue
        if not found or found[-1].values[-1] is not start:
            found.append(Stream((start,), (_writers(start, _before_relu(start)),)))
        before = found.pop()
        found.append(Stream((*before.values, end), (*before.writers, writers)))
    return found


def _writers(value: ir.Value, *nodes: ir.Node) -> tuple[ir.Node, ...]:
    """The nodes, if each is a convolution whose output goes into `value` alone."""
    for node in nodes:
        output = node.outputs[0]
        if node.op_type != "Conv" or (output is not value and len(output.uses()) > 1):
            raise CheckFailed(
                f"{node.op_type} {node.name} writes {value.name} and is no convolution that does so alone",
                "check the model's definition",
            )
    return nodes


def _behind_relu(value: ir.Value) -> ir.Value:
    """An Add's output, or that of the ReLU which alone reads it: x_l of an original network."""
    readers = [node for node, _ in value.uses()]
    if [node.op_type for node in readers] == ["Relu"]:
        return readers[0].outputs[0]
    return value


def _before_relu(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    if node.op_type != "Relu":
        return node
    before = node.inputs[0]
    assert before is not None
    return _before_relu(before)


def _add_behind(value: ir.Value) -> ir.Node | None:
    """The Add that wrote a value, if one did."""
    node = _before_relu(value)
    return node if node.op_type == "Add" else None
