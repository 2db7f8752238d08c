"""Put codes in the place of a float constant, which both weights and biases need."""

import numpy as np
import onnx_ir as ir

from graphs.onnx_file import initializer, remove_unread


def store_codes(graph: ir.Graph, conv: ir.Node, index: int, codes: np.ndarray, scales: np.ndarray) -> None:
    """Replace a convolution's weight or bias by codes and a DequantizeLinear, in place.

    Args:
        index: number of the input, 1 for the weight and 2 for the bias.
        codes: of the shape of the constant.
        scales: one for the whole constant, or [out] along axis 0.
    """
    constant = conv.inputs[index]
    assert constant is not None
    name = str(constant.name)
    inputs = [
        initializer(graph, f"{name}.codes", codes),
        initializer(graph, f"{name}.scales", scales),
    ]
    # ONNX allows no zero point beside int32 codes.
    if codes.dtype != np.int32:
        inputs.append(initializer(graph, f"{name}.zero_points", np.zeros(scales.shape, codes.dtype)))
    dequantize = ir.node("DequantizeLinear", inputs, {"axis": 0}, name=f"{name}.dequantize")
    dequantize.outputs[0].name = f"{name}.dequantized"
    graph.insert_before(conv, dequantize)
    conv.replace_input_with(index, dequantize.outputs[0])
    remove_unread(graph, [constant])


def dequantizer(node: ir.Node, index: int) -> ir.Node | None:
    """Return the DequantizeLinear that a node reads as input number `index`, or None."""
    value = node.inputs[index] if index < len(node.inputs) else None
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None
