"""Prove from the exported graph what the skip path consists of.

Pre-activation: plain Adds, and one projection convolution for each stage whose shape changes, and
nothing else: no ReLU, no normalization. Original: the same Adds and projections with one ReLU after
each Add, which is reported as what it is.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import onnx_ir as ir

from errors import CheckFailed
from graphs.onnx_file import constant
from graphs.skip_path import Junction, junctions
from models.config import ResNetConfig


@dataclass(frozen=True)
class Audit:
    """What was found on the skip path.

    Attributes:
        adds: names of the Add nodes, in order.
        projections: names of the convolutions on the skip path, in order.
        relus: names of the ReLUs on the skip path: the one behind each Add of an original network.
        clean: only Adds and projections.
    """

    adds: tuple[str, ...]
    projections: tuple[str, ...]
    relus: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing but Adds and projections stands on the skip path."""
        return not self.relus

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self) | {"clean": self.clean}

    def sentence(self) -> str:
        """One line for a person."""
        text = f"{len(self.adds)} Add, {len(self.projections)} projection conv"
        if self.clean:
            return text + ", nothing else: the skip path is clean"
        return text + f", and {len(self.relus)} ReLU after the Adds: no identity"


def audit(model: ir.Model, config: ResNetConfig) -> Audit:
    """Walk the skip path from the stem to the head.

    Raises:
        CheckFailed: something else stands there than the variant has; names the node.
    """
    found = junctions(model)
    _require_count(found, config)
    relus: list[str] = []
    projections: list[str] = []
    for index, junction in enumerate(found):
        projections += _projection_of(junction, config)
        end = _end_of_block(junction, config)
        if end is not junction.add.outputs[0]:
            relus.append(_producer(end).name or "")
        if index + 1 < len(found):
            _require_joined(end, found[index + 1])
    _require_stem(found[0], config)
    _require_head(end, config)
    if len(projections) != config.projections:
        raise _fault(found[0].add, f"{len(projections)} projections, where {config.projections} are due")
    return Audit(tuple(j.add.name or "" for j in found), tuple(projections), tuple(relus))


def _require_count(found: list[Junction], config: ResNetConfig) -> None:
    expected = 3 * config.blocks_per_stage
    if len(found) != expected:
        raise CheckFailed(
            f"skip path broken: {len(found)} Add nodes, where {expected} blocks are due",
            "check the model's definition",
        )


def _projection_of(junction: Junction, config: ResNetConfig) -> list[str]:
    """The name of the projection on this skip path, if there is one."""
    types = [node.op_type for node in junction.skip]
    if not types:
        return []
    # The activation before a pre-activation projection is shared with F. That of the first
    # bottleneck alone follows the stem, whose convolution its BN folded into.
    activated = config.variant == "preact" and _producer(junction.stream).op_type != "Relu"
    due = ["BatchNormalization", "Relu", "Conv"] if activated else ["Conv"]
    if types != due:
        pairs = zip_longest(junction.skip, due)
        odd = next((node for node, op_type in pairs if node and node.op_type != op_type), junction.skip[0])
        raise _fault(odd, f"stands on the skip path to {junction.add.name}")
    projection = junction.skip[-1]
    shared = junction.skip[:-1]
    if any(node not in junction.residual for node in shared):
        raise _fault(shared[0], "stands on the skip path alone, not shared with the branch")
    if not _changes_shape(projection):
        raise _fault(projection, "is a projection where the shape does not change")
    return [projection.name or ""]


def _changes_shape(conv: ir.Node) -> bool:
    out_channels, in_channels, *kernel = constant(conv.inputs[1]).shape
    strides = list(conv.attributes["strides"].as_ints())
    return kernel == [1, 1] and (out_channels != in_channels or strides != [1, 1])


def _end_of_block(junction: Junction, config: ResNetConfig) -> ir.Value:
    """x_{l+1}: the Add's output, or the output of the one Relu on it in an original network."""
    added = junction.add.outputs[0]
    after = [node for node, _ in added.uses()]
    if config.variant == "preact":
        for node in after:
            if node.op_type not in ("Add", "BatchNormalization"):
                raise _fault(node, f"stands behind {junction.add.name}, on the skip path")
        return added
    if [node.op_type for node in after] != ["Relu"]:
        raise _fault(junction.add, "is not followed by just one Relu, as in an original block")
    return after[0].outputs[0]


def _require_joined(end: ir.Value, following: Junction) -> None:
    if following.stream is not end:
        raise _fault(following.add, f"does not continue {end.name}")


def _require_stem(first: Junction, config: ResNetConfig) -> None:
    """The stream starts at the stem's convolution, or at the Relu on it.

    An original network has that Relu. A pre-activation network has it only where a projection shares
    it with F: before an identity it would stand on the skip path.
    """
    start = conv = _producer(first.stream)
    if start.op_type == "Relu":
        conv = _producer(start.inputs[0])
    source = conv.inputs[0]
    if conv.op_type != "Conv" or source is None or not source.is_graph_input():
        raise CheckFailed(
            f"skip path broken: it starts at {first.stream.name}, not at the stem", "export again"
        )
    if config.variant == "preact" and start is not conv and not first.skip:
        raise _fault(start, f"stands on the skip path to {first.add.name}")
    if config.variant == "original" and start is conv:
        raise _fault(conv, "is not followed by a Relu, as in an original network")


def _require_head(end: ir.Value, config: ResNetConfig) -> None:
    """From the last block on: BN and Relu (pre-activation), then pooling."""
    due = ["BatchNormalization", "Relu"] if config.variant == "preact" else []
    for op_type in [*due, "GlobalAveragePool"]:
        after = [node for node, _ in end.uses()]
        if [node.op_type for node in after] != [op_type]:
            raise CheckFailed(
                f"skip path broken: {_listed(after)} follows {end.name}, where {op_type} is due",
                "check the model's definition",
            )
        end = after[0].outputs[0]


def _producer(value: ir.Value | None) -> ir.Node:
    node = value.producer() if value is not None else None
    assert node is not None
    return node


def _listed(nodes: Iterable[ir.Node]) -> str:
    return ", ".join(f"{node.op_type} {node.name}" for node in nodes) or "nothing"


def _fault(node: ir.Node, what: str) -> CheckFailed:
    return CheckFailed(f"skip path broken: {node.op_type} {node.name} {what}", "check the model's definition")
