"""Write GlobalAveragePool as an AveragePool whose window is the whole image: the same mean by another name.

Behind a convolution TensorRT for RTX has a pooling kernel for the second, which reads the convolution's own
layout. The first it runs as a change of the layout and a mean, two kernels.
"""

import onnx_ir as ir

from graphs.onnx_file import replace_node


def pool_by_window(model: ir.Model) -> int:
    """Rewrite in place and return the number of rewritten nodes.

    Args:
        model: with the shapes of its tensors; a pooling whose input has no fixed size stays as it is.
    """
    rewritten = 0
    for node in list(model.graph):
        if node.op_type == "GlobalAveragePool" and (size := _image_size(node)):
            pool = ir.node("AveragePool", node.inputs, {"kernel_shape": size}, name=str(node.name))
            replace_node(model.graph, node, pool)
            rewritten += 1
    return rewritten


def _image_size(node: ir.Node) -> list[int]:
    """Height and width of what a node reads; empty if they are not fixed."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return []
    size = [length for length in value.shape[2:] if isinstance(length, int)]
    return size if len(size) == len(value.shape) - 2 else []
