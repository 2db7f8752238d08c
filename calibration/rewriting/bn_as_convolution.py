"""Rewrite a batch normalization as a 1x1 depthwise convolution.

    BN(x) = a x + c per channel,   a = gamma / sqrt(v + eps),   c = beta - m a

with the running mean m and variance v. ONNX Runtime has no integer kernel for BatchNormalization, and the
depthwise convolution becomes a QLinearConv. Each channel then has one weight, and int8 with one scale per
channel holds this weight exactly, as 127 steps.

Precondition: a float32 graph, not quantized.
Postcondition: no BatchNormalization is left but those refused.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import InvariantError

from graphs.conditions import require_float32
from graphs.onnx_file import constant, initializer, replace_node
from graphs.passes import GraphPass, PassResult


@dataclass(frozen=True)
class BatchnormAsConvolution(GraphPass):
    """Rewrite every BatchNormalization; the result names them, and the convolutions keep the names.

    Attributes:
        left_float: names of nodes that are to stay as they are.
    """

    name = "bn_as_convolution"
    left_float: Collection[str] = ()

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph."""
        require_float32(graph)

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Put a convolution in the place of each BN."""
        rewritten, refused = [], {}
        for node in [node for node in graph.graph if node.op_type == "BatchNormalization"]:
            name = str(node.name)
            if name in self.left_float:
                refused[name] = "the block around this BN is left in float"
            else:
                _rewrite(graph.graph, node)
                rewritten.append(name)
        return self.result(rewritten, refused)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that no BN is left but those refused."""
        for node in graph.graph:
            if node.op_type == "BatchNormalization" and node.name not in result.refused:
                raise InvariantError(f"BatchNormalization {node.name} is left")


def slope_and_offset(bn: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope a and offset c of a BatchNormalization, each [channels]."""
    gamma, beta, mean, variance = (constant(value).astype(np.float64) for value in bn.inputs[1:])
    slope = gamma / np.sqrt(variance + bn.attributes["epsilon"].as_float())
    return slope, beta - mean * slope


def _rewrite(graph: ir.Graph, bn: ir.Node) -> None:
    slope, offset = slope_and_offset(bn)
    channels = len(slope)
    attributes = {
        "kernel_shape": [1, 1],
        "strides": [1, 1],
        "pads": [0, 0, 0, 0],
        "dilations": [1, 1],
        "group": channels,
    }
    weight = initializer(graph, f"{bn.name}.slope", slope.astype(np.float32).reshape(channels, 1, 1, 1))
    bias = initializer(graph, f"{bn.name}.offset", offset.astype(np.float32))
    conv = ir.node("Conv", [bn.inputs[0], weight, bias], attributes, name=bn.name)
    replace_node(graph, bn, conv)
