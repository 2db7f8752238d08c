"""Where codes stand in a graph, against where TensorRT has kernels for them.

1. Codes are int8 or float8 (E4M3), symmetric: their zero point is 0. A bias stays in float.
2. Scales are positive constants: one for a tensor of data, one for each output channel (axis 0) of weights.
3. A convolution reads data and weights in the same codes, or both in float.
4. A convolution writes into an Add without a pair of QuantizeLinear and DequantizeLinear between them, so
   that one kernel does both; the skip path may have such a pair (NVIDIA TensorRT documentation, "Q/DQ
   placement").
5. Scales are in float16 where the rest of the network is, which ONNX has since opset 19.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from runtimes.tensorrt.finding import Finding

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_CODES = {ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN}
_FIRST_OPSET = 19
_ADVICE = "quantize symmetrically to int8, or to float8 (E4M3)"


def quantization_problems(model: ir.Model) -> Iterator[Finding]:
    """What of a graph's quantization TensorRT refuses or misreads; see the rules above."""
    for node in model.graph:
        if node.op_type == _QUANTIZE or (node.op_type == _DEQUANTIZE and not _from(node, 0, _QUANTIZE)):
            yield from _codes(node)
            yield from _scales(node)
        if node.op_type == _QUANTIZE:
            yield from _scales_of_data(node)
        if node.op_type == "Conv":
            yield from _operands(node)
        if node.op_type == "Add":
            yield from _junction(node)
    yield from _opset(model)


def _codes(node: ir.Node) -> Iterator[Finding]:
    """Rule 1."""
    codes = (node.outputs if node.op_type == _QUANTIZE else node.inputs)[0]
    kind = codes.dtype if codes is not None else None
    if kind == ir.DataType.INT32:
        yield _finding(node, "a bias in int32 codes is refused by TensorRT's parser", "keep biases in float")
    elif kind == ir.DataType.UINT8:
        words = "codes in uint8 are read as int8, so that codes over 127 saturate"
        yield _finding(node, words, _ADVICE)
    elif kind not in _CODES:
        name = kind.name.lower() if kind is not None else "unknown"
        yield _finding(node, f"TensorRT has no convolutions of {name} codes", _ADVICE)
    zero_point = _array(node, 2)
    if zero_point is not None and np.any(zero_point.astype(np.float32) != 0):
        yield _finding(node, "the zero point is not 0", _ADVICE)


def _scales(node: ir.Node) -> Iterator[Finding]:
    """Rule 2, of all scales."""
    scales = _array(node, 1)
    if scales is None:
        words = "the scale is no constant, and TensorRT crashes on a scale that is computed"
        yield _finding(node, words, "calibrate once and store the scale in the graph")
    elif not np.all(np.isfinite(scales.astype(np.float32)) & (scales.astype(np.float32) > 0)):
        words = "a scale is not a positive number"
        yield _finding(node, words, "calibrate again, with images on which the tensor is not 0 throughout")


def _scales_of_data(node: ir.Node) -> Iterator[Finding]:
    """Rule 2, of data."""
    scales, is_weight = _array(node, 1), _array(node, 0) is not None
    if scales is not None and scales.size > 1 and not is_weight:
        words = "data is scaled per tensor, and a scale of each channel makes the convolution run in float"
        yield _finding(node, words, "give the tensor one scale")


def _operands(conv: ir.Node) -> Iterator[Finding]:
    """Rule 3, and rule 2 of weights."""
    data, weights = (_from(conv, index, _DEQUANTIZE) for index in (0, 1))
    if (data is None) != (weights is None):
        float_side = "data is" if data is None else "weights are"
        words = f"its {float_side} in float, so that the convolution runs in float"
        yield _finding(conv, words, "quantize data and weights of a convolution, or neither")
    if data is None or weights is None:
        return
    kinds = [node.inputs[0].dtype for node in (data, weights) if node.inputs[0] is not None]
    # Codes that no convolution reads are found where they are dequantized.
    if len(set(kinds)) > 1 and set(kinds) <= _CODES:
        names = " and ".join(str(kind.name).lower() for kind in kinds if kind is not None)
        yield _finding(conv, f"data and weights are in {names}", "quantize both to the same type")
    scales, axis = _array(weights, 1), weights.attributes.get_int("axis", 1)
    if scales is not None and scales.size > 1 and axis != 0:
        words = f"weights are scaled along axis {axis}, which makes the convolution run in float"
        yield _finding(weights, words, "scale weights along axis 0, their output channels")


def _junction(add: ir.Node) -> Iterator[Finding]:
    """Rule 4: at least one convolution writes into the Add without a pair, if any does at all."""
    if _from(add, 0, "Conv") or _from(add, 1, "Conv"):
        return
    pairs = [_pair_behind_convolution(add, index) for index in (0, 1)]
    for quantize in filter(None, pairs):
        words = f"a pair between a convolution and Add {add.name} keeps both from becoming one kernel"
        yield _finding(quantize, words, "quantize the skip path instead of what the convolution writes")
        return


def _pair_behind_convolution(add: ir.Node, index: int) -> ir.Node | None:
    dequantize = _from(add, index, _DEQUANTIZE)
    quantize = _from(dequantize, 0, _QUANTIZE) if dequantize else None
    return quantize if quantize and _from(quantize, 0, "Conv") else None


def _opset(model: ir.Model) -> Iterator[Finding]:
    """Rule 5."""
    version = model.opset_imports.get("", 0)
    if version < _FIRST_OPSET and any(node.op_type == _QUANTIZE for node in model.graph):
        yield Finding(
            "opset",
            f"in opset {version} scales are float32, and so is everything that is not quantized",
            f"convert the graph to opset {_FIRST_OPSET} or later, with float16 scales",
        )


def _from(node: ir.Node, index: int, kind: str) -> ir.Node | None:
    """The node that writes an input, if that node is of this kind."""
    value = node.inputs[index] if index < len(node.inputs) else None
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == kind else None


def _array(node: ir.Node, index: int) -> np.ndarray | None:
    """The constant that a node reads; None where the input is missing or computed."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def _finding(node: ir.Node, words: str, fix: str) -> Finding:
    return Finding(str(node.name), words, fix)
