"""Convert a float32 graph to float16 or bfloat16: every tensor inside, with Casts at the border.

Input and output stay float32, so that one caller serves every precision. Initializers are rounded to the
nearest number of the type; a number that the type cannot hold is refused rather than clipped, which in
float16 is any over 65504. The variances of BN grow along the stream of a deep pre-activation network, so
those over the limit are first brought within reach without changing what the BN computes.

Precondition: a float32 graph, not quantized, with one input and one output.
Postcondition: every floating-point tensor between the two Casts is of the new type.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InvariantError

from errors import CheckFailed
from graphs.card import INPUT, OUTPUT
from graphs.conditions import require_float32
from graphs.onnx_file import constant, replace_constant
from graphs.outputs import follow_output
from graphs.passes import GraphPass, PassResult
from vocabulary import Precision

TYPES = {Precision.fp16: ir.DataType.FLOAT16, Precision.bf16: ir.DataType.BFLOAT16}
# Opset 22 is the first whose Conv and GlobalAveragePool take bfloat16; nothing else in them has changed
# since opset 19.
_BFLOAT16_OPSET = 22


@dataclass(frozen=True)
class Narrow(GraphPass):
    """Convert a graph; the result names the converted initializers.

    Attributes:
        precision: fp16 or bf16.

    Raises:
        CheckFailed: a weight exceeds the largest number of the type; names the weight.
    """

    name = "narrow"
    precision: Precision

    @property
    def _dtype(self) -> ir.DataType:
        return TYPES[self.precision]

    def requires(self, graph: ir.Model) -> None:
        """Require a float32 graph from one tensor to one tensor."""
        require_float32(graph)
        if (len(graph.graph.inputs), len(graph.graph.outputs)) != (1, 1):
            raise InvariantError("the graph does not have one input and one output")

    def rewrite(self, graph: ir.Model) -> PassResult:
        """Convert initializers and the types of values, then put a Cast at either end."""
        dtype = self._dtype
        if dtype == ir.DataType.BFLOAT16:
            graph.graph.opset_imports[""] = _BFLOAT16_OPSET
        for node in graph.graph:
            if node.op_type == "BatchNormalization":
                _bound_variance(node, _largest(dtype))
        converted = [
            name for name, value in graph.graph.initializers.items() if constant(value).dtype == np.float32
        ]
        for name in converted:
            _narrow_initializer(graph.graph.initializers[name], dtype)
        for node in graph.graph:
            for value in node.outputs:
                if value.dtype == ir.DataType.FLOAT:
                    value.type = ir.TensorType(dtype)
        _cast_input(graph, dtype)
        _cast_output(graph)
        return self.result(converted)

    def ensures(self, graph: ir.Model, result: PassResult) -> None:
        """Check that nothing is left in float32 but the graph's input and output."""
        computed = [value for node in graph.graph for value in node.outputs if not value.is_graph_output()]
        for value in (*graph.graph.initializers.values(), *computed):
            if value.dtype is not None and value.dtype.is_floating_point() and value.dtype != self._dtype:
                raise InvariantError(f"{value.name} is {value.dtype.name.lower()}")


def _bound_variance(node: ir.Node, largest: float) -> None:
    """Divide scale and standard deviation of a channel by one power of two, where the variance is too large.

    γ (x − μ) / √(σ² + ε) = 2⁻ᵏ γ (x − μ) / √(4⁻ᵏ (σ² + ε)), and this rounds nothing, because 2⁻ᵏ only moves
    exponents.
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
    """Return the largest finite number of a 16-bit type."""
    return float(ml_dtypes.finfo(dtype.numpy()).max)


def _narrow_initializer(value: ir.Value, dtype: ir.DataType) -> None:
    array = constant(value)
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
    follow_output(model.graph, "Cast", {"to": int(ir.DataType.FLOAT)}, OUTPUT)
