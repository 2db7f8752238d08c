"""The streams of a float graph: the values that identity skips join, and two exact changes of them.

Within a stage x_{l+1} = x_l + F_l(x_l); in an original network a ReLU follows the sum. A stream begins
behind the stem or behind the projection of a stage's first block. Two changes of each channel keep the
function of the network:

    shift   y_l = x_l + d_l     d_0 goes into the bias of the stem or projection, d_{l+1} - d_l into
                                the bias of F_l's last convolution, -d_l into the BN that reads y_l
    scale   y_l = s x_l, s > 0  the convolutions that write the stream are multiplied by s, and what reads
                                the stream is divided by s: BN's slope, or the weights behind a ReLU

A shift needs a BN as the only reader, because a ReLU does not let a shift through and a zero-padded border
would not be shifted along.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from errors import CheckFailed
from graphs.onnx_file import add_to_bias, constant, replace_constant
from graphs.skip_path import junctions

# These operators stand between the stream and weights and let a positive factor through unchanged.
_HOMOGENEOUS = {"Relu", "GlobalAveragePool", "Flatten"}


@dataclass(frozen=True)
class Stream:
    """A stream is the values x_0 … x_n of one shape that identity skips join, in order of execution.

    Attributes:
        values: x_l; in an original network these are the outputs of the ReLUs.
        writers: for each value, the convolutions whose outputs are added into the value. For x_0 these
            are the stem, or the projection and F's last convolution; for the other x_l, F's last
            convolution alone.
    """

    values: tuple[ir.Value, ...]
    writers: tuple[tuple[ir.Node, ...], ...]

    @property
    def channels(self) -> int:
        """Return the number of channels, which every x_l has."""
        return len(constant(self.writers[0][0].inputs[1]))

    @property
    def scaled(self) -> tuple[ir.Value, ...]:
        """Return all tensors that share the factor of a channel: every x_l, and what is added into an x_l."""
        added = (conv.outputs[0] for writers in self.writers for conv in writers)
        return tuple(dict.fromkeys((*self.values, *added)))

    def readers(self, index: int) -> list[ir.Node]:
        """Return the nodes that read x_index for a residual branch, a projection or the head."""
        adds = {_add_behind(value) for value in self.values}
        return [node for node, _ in self.values[index].uses() if node not in adds]

    def batchnorm(self, index: int) -> ir.Node | None:
        """Return the BN that alone reads x_index, or None if something else reads x_index."""
        readers = self.readers(index)
        return readers[0] if [node.op_type for node in readers] == ["BatchNormalization"] else None

    def shift(self, graph: ir.Graph, shifts: Sequence[NDArray[np.float64]]) -> None:
        """Add shifts[l] [channels] to every x_l, in place.

        Args:
            graph: the graph of this stream.
            shifts: one for each x_l; those of the x_l that no BN alone reads must be zero.
        """
        before = np.zeros_like(shifts[0])
        for index, (shift, writers) in enumerate(zip(shifts, self.writers, strict=True)):
            # A convolution without a bias gets a bias only if the stream moves by a step here.
            if (change := shift - before).any():
                add_to_bias(graph, writers[0], change)
            if shift.any():
                bn = self.batchnorm(index)
                assert bn is not None
                replace_constant(bn.inputs[3], constant(bn.inputs[3]) + shift)
            before = shift

    def scale(self, factors: NDArray[np.float64]) -> None:
        """Multiply every x_l by positive factors [channels], in place."""
        for index, writers in enumerate(self.writers):
            for conv in writers:
                for parameter in conv.inputs[1:]:
                    array = constant(parameter)
                    replace_constant(parameter, array * factors.reshape(-1, *[1] * (array.ndim - 1)))
            for node in self.readers(index):
                divide_input(node, factors)


def divide_input(node: ir.Node, factors: NDArray[np.float64]) -> None:
    """Prepare a node, in place, for an input multiplied by positive factors [channels].

    The node's output stays what it was, except behind a ReLU or a pooling, whose readers are prepared in
    the same way.

    Raises:
        ValueError: the node's operator does not let a factor through.
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
    """Tell whether a node multiplies its input by a weight [out, in, …], whose axis 1 can be divided."""
    if node.op_type == "Conv":
        return node.attributes.get_int("group", 1) == 1
    return node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1


def streams_of(model: ir.Model) -> list[Stream]:
    """Return every stream of a float graph, in order of execution.

    Raises:
        CheckFailed: the graph is not a chain of residual blocks that each end in a convolution.
    """
    streams: list[Stream] = []
    for junction in junctions(model):
        start = junction.stream
        end = _behind_relu(junction.add.outputs[0])
        # These are the projection, if there is one, and the last convolution of F.
        writers = _writers(end, *junction.skip[-1:], junction.residual[-1])
        if junction.skip:
            streams.append(Stream((end,), (writers,)))
            continue
        if not streams or streams[-1].values[-1] is not start:
            streams.append(Stream((start,), (_writers(start, _before_relu(start)),)))
        before = streams.pop()
        streams.append(Stream((*before.values, end), (*before.writers, writers)))
    return streams


def _writers(value: ir.Value, *nodes: ir.Node) -> tuple[ir.Node, ...]:
    """Return the nodes, if each is a convolution whose output goes into `value` and nowhere else."""
    for node in nodes:
        output = node.outputs[0]
        if node.op_type != "Conv" or (output is not value and len(output.uses()) > 1):
            raise CheckFailed(
                f"{node.op_type} {node.name} writes {value.name}, but is not a convolution whose output goes "
                "nowhere else",
                "check the model's definition",
            )
    return nodes


def _behind_relu(value: ir.Value) -> ir.Value:
    """Return what a ReLU makes of an Add's output, if the ReLU alone reads this; the output otherwise."""
    readers = [node for node, _ in value.uses()]
    if [node.op_type for node in readers] == ["Relu"]:
        return readers[0].outputs[0]
    return value


def _before_relu(value: ir.Value) -> ir.Node:
    """Return the node that wrote a value, or, if this was a ReLU, the node that wrote the ReLU's input."""
    node = value.producer()
    assert node is not None
    if node.op_type != "Relu":
        return node
    before = node.inputs[0]
    assert before is not None
    return _before_relu(before)


def _add_behind(value: ir.Value) -> ir.Node | None:
    """Return the Add that wrote a value, or None if no Add did."""
    node = _before_relu(value)
    return node if node.op_type == "Add" else None
