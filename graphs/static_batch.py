"""Give a graph one fixed batch size, for runtimes that take no symbolic shapes.

The symbolic first size of the input, "batch" in the graphs of skipfold, becomes a number in every shape
that the graph states. Shapes inside the graph that are not stated follow from the input, and `write_graph`
infers them strictly.

Precondition: one input, whose first size is symbolic and whose other sizes are numbers.
Postcondition: no stated shape has a symbolic size, and the first size of input and output is the fixed one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import InvariantError

from graphs.passes import GraphPass, PassResult


@dataclass(frozen=True)
class StaticBatch(GraphPass):
    """Fix the batch; the result names the values whose shapes changed.

    Attributes:
        size: how many pictures the graph takes at a time, at least 1.
    """

    name = "static_batch"
    size: int

    def requires(self, graph: ir.Model) -> None:
        """Require a symbolic batch, and no other symbolic size in the input."""
        if self.size < 1:
            raise InvariantError(f"a batch of {self.size} holds no picture")
        for value in graph.graph.inputs:
            batch, *others = value.shape or [0]
            if isinstance(batch, int):
                raise InvariantError(f"the batch of {value.name} {value.shape} is not symbolic")
            if symbols := [str(size) for size in others if not isinstance(size, int)]:
                raise InvariantError(f"{value.name} has the symbolic size {', '.join(symbols)}, too")

    def interface_after(self, graph: ir.Model) -> tuple[str, ...]:
        """Promise the fixed size in the place of the symbolic one, and the rest as it was."""
        batch = _symbol(graph)
        return tuple(line.replace(f"[{batch},", f"[{self.size},") for line in super().interface_after(graph))

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Replace the symbol wherever a shape has it."""
        batch = _symbol(graph)
        changed = []
        for value in _values(graph):
            if value.shape is None or value.shape.is_static():
                continue
            value.shape = ir.Shape(
                [self.size if _name_of(size) == batch else size for size in value.shape.dims]
            )
            changed.append(str(value.name))
        return self.result(changed)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that no size is symbolic any more."""
        for value in _values(graph):
            if value.shape is not None and not value.shape.is_static():
                raise InvariantError(f"{value.name} still has the shape {value.shape}")


def _symbol(graph: ir.Model) -> str | None:
    """Return the name of the input's batch."""
    shape = graph.graph.inputs[0].shape
    assert shape is not None
    return _name_of(shape[0])


def _name_of(size: int | ir.SymbolicDim) -> str | None:
    return None if isinstance(size, int) else size.value


def _values(graph: ir.Model) -> Iterator[ir.Value]:
    """Yield the inputs, and the outputs of all nodes."""
    yield from graph.graph.inputs
    for node in graph.graph:
        yield from node.outputs
