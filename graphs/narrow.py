"""float32 -> float16 or bfloat16, in place: every tensor inside the graph, with Casts at its border.

Input and output stay float32, so one caller serves every precision. Initializers are rounded to
nearest; one that the type cannot hold is refused, not clipped. The variances of BN, which grow along the
stream of a deep pre-activation network, are first brought within reach.
"""

import ml_dtypes
import numpy as np
import onnx_ir as ir

from errors import CheckFailed
from graphs.card import INPUT, OUTPUT
from graphs.onnx_file import constant, replace_constant

TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
# The first opset whose Conv and GlobalAveragePool take bfloat16; neither computes anything else in it.
_BFLOAT16_OPSET = 22


def narrow(model: ir.Model, precision: str) -> int:
    """Convert a float32 graph and return the number of converted initializers.

    Args:
        precision: "fp16" or "bf16".

    Raises:
        CheckFailed: a weight exceeds the largest number of the type; names it.
    """
    graph, dtype = model.graph, TYPES[precision]
    if dtype == ir.DataType.BFLOAT16:
        graph.opset_imports[""] = _BFLOAT16_OPSET
    for node in graph:
        if node.op_type == "BatchNormalization":
            _bound_variance(node, _largest(dtype))
    converted = 0
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT:
            _narrow_initializer(value, dtype)
            converted += 1
    for node in graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(dtype)
    _cast_input(model, dtype)
    _cast_output(model)
    return converted


def _bound_variance(node: ir.Node, largest: float) -> None:
    """Divide scale and standard deviation of a channel by the same power of two, where it is needed.

    γ (x − μ) / √(σ² + ε) = 2⁻ᵏ γ (x − μ) / √(4⁻ᵏ (σ² + ε)): exact, as 2⁻ᵏ only moves exponents.
    """
    gamma, squares = constant(node.inputs[1]), constant(node.inputs[4])
    if np.isinf(squares).any() or not squares.max(initial=0) > largest:
        return
    epsilon = node.attributes["epsilon"].as_float()
    halvings = np.ceil(np.log2(np.maximum(squares / largest, 1)) / 2)
    bounded = np.where(halvings > 0, (squares + epsilon) * 4.0**-halvings - epsilon, squares)
    for value, array in ((node.inputs[1], gamma * 2.0**-halvings), (node.inputs[4], bounded)):
        replace_constant(value, array)


def _largest(dtype: ir.DataType) -> float:
    return float(ml_dtypes.finfo(dtype.numpy()).max)


def _narrow_initializer(value: ir.Value, dtype: ir.DataType) -> None:
    assert value.const_value is not None
    array = value.const_value.numpy()
    largest = _largest(dtype)
    if np.abs(array).max(initial=0) > largest:
        raise CheckFailed(
            f"{value.name} holds {np.abs(array).max():.3g}, more than {dtype.name.lower()}'s {largest:.6g}",
            "keep this network in float32",
        )
    value.const_value = ir.tensor(array.astype(dtype.numpy()), name=value.name)
    value.type = ir.TensorType(dtype)


def _cast_input(model: ir.Model, dtype: ir.DataType) -> None:
    images = model.graph.inputs[0]
    cast = ir.node("Cast", [images], {"to": int(dtype)}, name=f"{INPUT}.narrow")
    narrowed = cast.outputs[0]
    narrowed.name = f"{INPUT}.narrow"
    narrowed.type = ir.TensorType(dtype)
    narrowed.shape = images.shape
    first = next(iter(model.graph))
    for node, index in images.uses():
        if node is not cast:
            node.replace_input_with(index, narrowed)
    model.graph.insert_before(first, cast)


def _cast_output(model: ir.Model) -> None:
    narrowed = model.graph.outputs[0]
    narrowed.name = f"{OUTPUT}.narrow"
    cast = ir.node("Cast", [narrowed], {"to": int(ir.DataType.FLOAT)}, name=OUTPUT)
    logits = cast.outputs[0]
    logits.name = OUTPUT
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    logits.shape = narrowed.shape
    model.graph.append(cast)
    model.graph.outputs[0] = logits
