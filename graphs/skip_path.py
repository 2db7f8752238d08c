"""Find the skip path of an exported ResNet from the graph alone, without trusting names.

Every block ends in an Add. Walk back from both operands of the Add through Conv, BatchNormalization and
Relu: both walks end at the stream x_l, which is the output of the stem or of the block before (its Add,
or, in an original network, the Relu behind that Add). The operand with fewer convolutions is the skip
path. An identity has no convolution, a projection has one, and the residual branch F has two or three.
"""

from dataclasses import dataclass

import onnx_ir as ir

from errors import CheckFailed

_IN_BRANCH = {"Conv", "BatchNormalization", "Relu"}


@dataclass(frozen=True)
class Junction:
    """The Add at the end of one block, with the two branches that it adds.

    Attributes:
        add: the Add node.
        skip_operand: the index of the Add's input that is the skip path, 0 or 1.
        skip: the nodes on the skip path between the stream and the Add, in order of execution.
        residual: the nodes of the residual branch F, in order of execution.
        stream: the value x_l that both branches start from.
    """

    add: ir.Node
    skip_operand: int
    skip: tuple[ir.Node, ...]
    residual: tuple[ir.Node, ...]
    stream: ir.Value

    @property
    def skip_value(self) -> ir.Value:
        """The operand of the Add that comes from the skip path."""
        value = self.add.inputs[self.skip_operand]
        assert value is not None
        return value


def junctions(model: ir.Model) -> list[Junction]:
    """Return the junctions of all blocks, in order of execution.

    Raises:
        CheckFailed: the operands of an Add do not come from one stream; the error names the Add.
    """
    return [_junction(node) for node in model.graph if node.op_type == "Add"]


def _junction(add: ir.Node) -> Junction:
    if len(add.inputs) != 2:
        raise fault_at(add, "does not have two operands")
    chains = [_chain_to_stream(value, add) for value in add.inputs]
    streams = [_stream_of(chain, value) for chain, value in zip(chains, add.inputs, strict=True)]
    counts = [sum(node.op_type == "Conv" for node in chain) for chain in chains]
    if counts[0] == counts[1]:
        raise fault_at(add, f"has {counts[0]} convolutions on both operands: neither is a skip path")
    skip = 0 if counts[0] < counts[1] else 1
    # An operand that is the stream itself has an empty chain, because F starts at that very value.
    if streams[0] is not streams[1]:
        raise fault_at(add, f"adds branches that start at {streams[0].name} and {streams[1].name}")
    return Junction(add, skip, chains[skip], chains[1 - skip], streams[skip])


def _chain_to_stream(value: ir.Value | None, add: ir.Node) -> tuple[ir.Node, ...]:
    """Return the nodes between the stream and `value`, which are none if `value` is the stream."""
    chain: list[ir.Node] = []
    while value is not None and not _is_stream(value):
        node = value.producer()
        if node is None or node.op_type not in _IN_BRANCH:
            what = f"{node.op_type} {node.name}" if node else value.name
            raise fault_at(add, f"is fed through {what}, which belongs to no residual block")
        chain.append(node)
        value = node.inputs[0]
    return tuple(reversed(chain))


def _stream_of(chain: tuple[ir.Node, ...], value: ir.Value | None) -> ir.Value:
    stream = chain[0].inputs[0] if chain else value
    assert stream is not None
    return stream


def _is_stream(value: ir.Value) -> bool:
    """Tell whether a value is some x_l, that is, the output of a block or of the stem.

    In an original network x_l is the output of the Relu behind an Add or behind the stem, and nothing
    but that Relu reads the Add or the stem. In a pre-activation network x_l is the output of an Add or
    of the stem itself, and a BatchNormalization or an Add reads it.
    """
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Relu":
        before = node.inputs[0]
        return before is not None and _ends_block_or_stem(before) and len(before.uses()) == 1
    return _ends_block_or_stem(value) and not _only_feeds_relu(value)


def _ends_block_or_stem(value: ir.Value) -> bool:
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Add":
        return True
    source = node.inputs[0]
    return node.op_type == "Conv" and source is not None and source.is_graph_input()


def _only_feeds_relu(value: ir.Value) -> bool:
    return [node.op_type for node, _ in value.uses()] == ["Relu"]


def fault_at(node: ir.Node, what: str) -> CheckFailed:
    """Return the error that names a node and says what is wrong with the node."""
    return broken(f"{node.op_type} {node.name} {what}")


def broken(what: str) -> CheckFailed:
    """Return the error for a skip path that is not what it must be."""
    return CheckFailed(f"skip path broken: {what}", "check the definition of the network in models/")
