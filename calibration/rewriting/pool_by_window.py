"""Write GlobalAveragePool as an AveragePool whose window is the whole image: the same mean by another name.

Behind a convolution TensorRT for RTX has a pooling kernel for the AveragePool, which reads the layout of the
convolution. The GlobalAveragePool runs as a change of the layout and a mean, which are two kernels.

Precondition: images have two dimensions, so that a pooling of known shape reads [batch, channels, height,
width].
Postcondition: no GlobalAveragePool is left but those refused, whose images have no fixed size.
"""

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import InvariantError

from graphs.onnx_file import replace_node
from graphs.passes import GraphPass, PassResult

_DIMENSIONS = 4


@dataclass(frozen=True)
class PoolByWindow(GraphPass):
    """Rewrite every GlobalAveragePool; the result names the nodes, which keep their names."""

    name = "pool_by_window"

    def requires(self, graph: ir.Model) -> None:
        """Require tensors of four dimensions where the shape is known."""
        for node in _global_pools(graph):
            value = node.inputs[0]
            if value is not None and value.shape is not None and len(value.shape) != _DIMENSIONS:
                raise InvariantError(f"{value.name} has {len(value.shape)} dimensions, not {_DIMENSIONS}")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Put an AveragePool in the place of each node."""
        rewritten, refused = [], {}
        for node in _global_pools(graph):
            if size := _image_size(node):
                pool = ir.node("AveragePool", node.inputs, {"kernel_shape": size}, name=str(node.name))
                replace_node(graph.graph, node, pool)
                rewritten.append(str(node.name))
            else:
                refused[str(node.name)] = "the images that this pooling reads have no fixed size"
        return self.result(rewritten, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that no GlobalAveragePool is left but those refused."""
        for node in _global_pools(graph):
            if node.name not in result.refused:
                raise InvariantError(f"GlobalAveragePool {node.name} is left")


def _global_pools(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "GlobalAveragePool"]


def _image_size(node: ir.Node) -> list[int]:
    """Return height and width of the images that a node reads, or nothing if they are not fixed."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return []
    size = [length for length in value.shape[2:] if isinstance(length, int)]
    return size if len(size) == len(value.shape) - 2 else []
