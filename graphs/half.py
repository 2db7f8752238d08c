"""float32 -> float16, in place: every tensor inside the graph, with Casts at its border.

Input and output stay float32, so one caller serves every precision. Initializers are rounded to
nearest; one that float16 cannot hold is refused, not clipped.
"""

import numpy as np
import onnx_ir as ir

from errors import CheckFailed
from graphs.card import INPUT, OUTPUT

_LARGEST = float(np.finfo(np.float16).max)


def convert_to_half(model: ir.Model) -> int:
    """Convert a float32 graph and return the number of converted initializers.

    Raises:
        CheckFailed: a weight exceeds 65504; names it.
    """
    graph = model.graph
    converted = 0
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        array = tensor.numpy()
        if np.abs(array).max(initial=0) > _LARGEST:
            raise CheckFailed(
                f"{value.name} holds {np.abs(array).max():.3g}, more than float16's {_LARGEST:.0f}",
                "keep this network in float32",
            )
        value.const_value = ir.tensor(array.astype(np.float16), name=value.name)
        value.type = ir.TensorType(ir.DataType.FLOAT16)
        converted += 1
    for node in graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)
    _cast_input(model)
    _cast_output(model)
    return converted


def _cast_input(model: ir.Model) -> None:
    images = model.graph.inputs[0]
    cast = ir.node("Cast", [images], {"to": int(ir.DataType.FLOAT16)}, name=f"{INPUT}.half")
    half = cast.outputs[0]
    half.name = f"{INPUT}.half"
    half.type = ir.TensorType(ir.DataType.FLOAT16)
    half.shape = images.shape
    first = next(iter(model.graph))
    for node, index in images.uses():
        if node is not cast:
            node.replace_input_with(index, half)
    model.graph.insert_before(first, cast)


def _cast_output(model: ir.Model) -> None:
    half = model.graph.outputs[0]
    half.name = f"{OUTPUT}.half"
    cast = ir.node("Cast", [half], {"to": int(ir.DataType.FLOAT)}, name=OUTPUT)
    logits = cast.outputs[0]
    logits.name = OUTPUT
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    logits.shape = half.shape
    model.graph.append(cast)
    model.graph.outputs[0] = logits
