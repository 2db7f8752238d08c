"""Prove from the exported graph what the skip path consists of.

The skip path of a pre-activation network has plain Adds, one projection convolution for each stage that
changes the shape, and nothing else: no ReLU and no normalization. The skip path of an original network has
one ReLU more behind each Add, and the audit reports these ReLUs.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import onnx_ir as ir

from graphs.onnx_file import constant
from graphs.skip_path import Junction, broken, fault_at, junctions
from models.config import ResNetConfig


@dataclass(frozen=True)
class Audit:
    """The nodes on the skip path.

    Attributes:
        adds: the names of the Add nodes, in order of execution.
        projections: the names of the projection convolutions, in order of execution.
        relus: the names of the ReLUs, of which an original network has one behind each Add.
    """

    adds: tuple[str, ...]
    projections: tuple[str, ...]
    relus: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing but Adds and projections stands on the skip path."""
        return not self.relus

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `clean` as JSON values."""
        return asdict(self) | {"clean": self.clean}

    def sentence(self) -> str:
        """Return the result in one line of text."""
        text = f"{len(self.adds)} Adds, {len(self.projections)} projection convolutions"
        if self.clean:
            return text + " and nothing else: the skip path is clean"
        return text + f" and {len(self.relus)} ReLUs behind the Adds: the skip path is no identity"


def audit(model: ir.Model, config: ResNetConfig) -> Audit:
    """Walk the skip path from the stem to the head and return what stands on it.

    Raises:
        CheckFailed: the skip path has another node than a network of this configuration, or lacks one.
    """
    blocks = junctions(model)
    _require_count(blocks, config)
    relus: list[str] = []
    projections: list[str] = []
    for index, junction in enumerate(blocks):
        projections += _projection_of(junction, config)
        end = _end_of_block(junction, config)
        if end is not junction.add.outputs[0]:
            relus.append(_producer(end).name or "")
        if index + 1 < len(blocks):
            _require_joined(end, blocks[index + 1])
    _require_stem(blocks[0], config)
    _require_head(end, config)
    if len(projections) != config.projections:
        raise broken(f"the graph has {len(projections)} projections and must have {config.projections}")
    return Audit(tuple(block.add.name or "" for block in blocks), tuple(projections), tuple(relus))


def _require_count(blocks: list[Junction], config: ResNetConfig) -> None:
    expected = 3 * config.blocks_per_stage
    if len(blocks) != expected:
        raise broken(f"the graph has {len(blocks)} Add nodes and must have one for each of {expected} blocks")


def _projection_of(junction: Junction, config: ResNetConfig) -> list[str]:
    """Return the name of the projection on the skip path of one block, or an empty list for an identity."""
    types = [node.op_type for node in junction.skip]
    if not types:
        return []
    # A pre-activation projection reads the activation of the stream, which F reads, too. The first bottleneck
    # is the exception: its BN folded into the stem, so that the stream itself ends in the Relu.
    activated = config.variant == "preact" and _producer(junction.stream).op_type != "Relu"
    expected = ["BatchNormalization", "Relu", "Conv"] if activated else ["Conv"]
    if types != expected:
        pairs = zip_longest(junction.skip, expected)
        odd = next((node for node, op_type in pairs if node and node.op_type != op_type), junction.skip[0])
        raise fault_at(odd, f"stands on the skip path to {junction.add.name}")
    projection = junction.skip[-1]
    shared = junction.skip[:-1]
    if any(node not in junction.residual for node in shared):
        raise fault_at(shared[0], "stands on the skip path alone, not shared with the branch")
    if not _changes_shape(projection):
        raise fault_at(projection, "is a projection where the shape does not change")
    return [projection.name or ""]


def _changes_shape(conv: ir.Node) -> bool:
    out_channels, in_channels, *kernel = constant(conv.inputs[1]).shape
    strides = list(conv.attributes["strides"].as_ints())
    return kernel == [1, 1] and (out_channels != in_channels or strides != [1, 1])


def _end_of_block(junction: Junction, config: ResNetConfig) -> ir.Value:
    """Return x_{l+1}: the output of the Add, or, in an original network, of the Relu behind the Add."""
    added = junction.add.outputs[0]
    after = [node for node, _ in added.uses()]
    if config.variant == "preact":
        for node in after:
            if node.op_type not in ("Add", "BatchNormalization"):
                raise fault_at(node, f"stands behind {junction.add.name}, on the skip path")
        return added
    if [node.op_type for node in after] != ["Relu"]:
        raise fault_at(junction.add, "is not followed by just one Relu, as in an original block")
    return after[0].outputs[0]


def _require_joined(end: ir.Value, following: Junction) -> None:
    if following.stream is not end:
        raise fault_at(following.add, f"does not continue {end.name}")


def _require_stem(first: Junction, config: ResNetConfig) -> None:
    """Check that the stream starts at the convolution of the stem, or at the Relu behind that convolution.

    An original network must have that Relu. A pre-activation network may have it only if the first block has
    a projection, which reads the Relu as F does; in front of an identity the Relu would stand on the skip
    path.
    """
    start = conv = _producer(first.stream)
    if start.op_type == "Relu":
        conv = _producer(start.inputs[0])
    source = conv.inputs[0]
    if conv.op_type != "Conv" or source is None or not source.is_graph_input():
        raise broken(f"the path starts at {first.stream.name} and not at the stem")
    if config.variant == "preact" and start is not conv and not first.skip:
        raise fault_at(start, f"stands on the skip path to {first.add.name}")
    if config.variant == "original" and start is conv:
        raise fault_at(conv, "is not followed by a Relu, as in an original network")


def _require_head(end: ir.Value, config: ResNetConfig) -> None:
    """Check the nodes behind the last block: BN and Relu in a pre-activation network, then the pooling."""
    activation = ["BatchNormalization", "Relu"] if config.variant == "preact" else []
    for op_type in [*activation, "GlobalAveragePool"]:
        after = [node for node, _ in end.uses()]
        if [node.op_type for node in after] != [op_type]:
            raise broken(f"{_listed(after)} follows {end.name}, where {op_type} must follow")
        end = after[0].outputs[0]


def _producer(value: ir.Value | None) -> ir.Node:
    node = value.producer() if value is not None else None
    assert node is not None
    return node


def _listed(nodes: Iterable[ir.Node]) -> str:
    return ", ".join(f"{node.op_type} {node.name}" for node in nodes) or "nothing"
