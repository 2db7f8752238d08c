"""Rewrite a batch normalization as a 1x1 depthwise convolution.

    BN(x) = a x + c per channel,   a = g / sqrt(v + eps),   c = b - m a

ONNX Runtime has no integer kernel for BatchNormalization; the depthwise convolution becomes a
QLinearConv. A channel has one weight, which int8 with a scale of its own holds exactly.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphs.onnx_file import constant, initializer, replace_node


def bn_as_convolution(model: ir.Model, left_float: Collection[str] = ()) -> list[str]:
    """Rewrite every BatchNormalization but those in `left_float` in place and return their names."""
    rewritten = []
    for node in list(model.graph):
        if node.op_type == "BatchNormalization" and node.name not in left_float:
            _rewrite(model.graph, node)
            rewritten.append(node.name or "")
    return rewritten


def slope_and_offset(bn: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope a and offset c of a BatchNormalization, each [channels]."""
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
