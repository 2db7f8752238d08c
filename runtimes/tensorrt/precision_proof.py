"""The proof of a plan's precision: the type that its layers say each convolution of the graph computes in.

1. A layer names the ONNX nodes whose work it does. Several layers may name one convolution, because bias and
   padding can be kernels of their own; the layer that convolves is a convolution by its kind or by its name.
2. A convolution computes in the type of its data and weights. On Turing both of an INT8 graph are float16,
   because the codes are turned into float16 in front of the convolution.
3. A plan with several optimization profiles has every convolution once a profile, and all of them count.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from errors import CheckFailed
from graphs.card import GraphCard
from runtimes.tensorrt.plan_layers import Layer, Tensor, kernels_of

# The type of the convolutions of a precision.
TYPE_OF_PRECISION = {
    "fp32": "float32", "fp16": "float16", "bf16": "bfloat16",
    "int8": "int8", "fp8": "float8",
}  # fmt: skip
# Said of a convolution that no kernel of the plan can be told to compute.
UNKNOWN = "a type that the plan does not tell"
_CONVOLUTIONS = {"correlation", "Convolution", "CaskConvolution", "gemm"}
# A fused kernel is named after its operators: "__myl_CorrMulAddRelu_myl0_11" begins with a convolution.
_FUSED, _FUSED_CONVOLUTION = "runtime_fusion", "Corr"
_NAMED = 3


@dataclass(frozen=True)
class Convolution:
    """A convolution of an ONNX graph.

    Attributes:
        name: of the node.
        weights: shape [out, in, height, width].
    """

    name: str
    weights: tuple[int, ...]


def convolutions_of(model: ir.Model) -> list[Convolution]:
    """The convolutions of a graph that has the shapes of all tensors."""
    nodes = [node for node in model.graph if node.op_type == "Conv"]
    return [Convolution(str(node.name), _shape(node.inputs[1])) for node in nodes]


def types_of_convolutions(
    layers: Sequence[Layer], convolutions: Iterable[Convolution], profiles: int
) -> dict[str, str]:
    """The type that each convolution computes in, by the name of its node.

    Args:
        profiles: number of optimization profiles of the plan.

    Returns:
        such as "int8"; `UNKNOWN` where a profile has no kernel for the convolution; and several types,
        joined by "and", where the kernels of one convolution differ.
    """
    convolving: dict[tuple[int, str], list[Layer]] = {}
    for profile in range(profiles):
        for layer in kernels_of(layers, profile):
            for name in layer.nodes if _convolves(layer) else ():
                convolving.setdefault((profile, name), []).append(layer)

    def type_of(conv: Convolution) -> str:
        kernels = [convolving.get((profile, conv.name), []) for profile in range(profiles)]
        if not all(kernels):
            return UNKNOWN
        types = {_type(kernel, conv) for of_profile in kernels for kernel in of_profile}
        return " and ".join(sorted(types))

    return {conv.name: type_of(conv) for conv in convolutions}


def is_as_asked(types: Mapping[str, str], card: GraphCard) -> bool:
    """Whether all convolutions compute in the graph's precision, except as many as its card leaves in float.

    Args:
        types: of each convolution, by name.
    """
    counts = Counter(types.values())
    asked = TYPE_OF_PRECISION[card.precision]
    in_float = sum(counts[kind] for kind in {"float16", "float32"} - {asked})
    return (
        counts[asked] > 0
        and in_float == card.float_convolutions
        and counts[asked] + in_float == counts.total()
    )


def require_precision(types: Mapping[str, str], card: GraphCard, title: str, file: str) -> None:
    """Refuse a plan whose convolutions do not compute in the precision of its graph.

    Args:
        title: of the builder; `file` is the name of the ONNX file.

    Raises:
        CheckFailed: names the convolutions and the types that they run in.
    """
    if is_as_asked(types, card):
        return
    asked = TYPE_OF_PRECISION[card.precision]
    others = sorted({kind for kind in types.values() if kind != asked})
    run = "; ".join(_words(kind, [name for name, own in types.items() if own == kind]) for kind in others)
    left = f", and its card leaves {card.float_convolutions} in float" if card.float_convolutions else ""
    raise CheckFailed(
        f"{title} would not run {file} in {card.precision}: of {len(types)} convolutions "
        f"{run or f'all run in {asked}'}{left}",
        "build for GPUs that have the precision, or export and calibrate again",
    )


def _words(kind: str, names: list[str]) -> str:
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
    return f"{len(names)} run in {kind} ({named})"


def _convolves(layer: Layer) -> bool:
    return layer.kind in _CONVOLUTIONS or (layer.kind == _FUSED and _FUSED_CONVOLUTION in layer.name)


def _type(kernel: Layer, conv: Convolution) -> str:
    """The type of a kernel's data and weights; the data is the first input."""
    if not kernel.inputs:
        return UNKNOWN
    data, *others = kernel.inputs
    weights = {t.type for t in (*kernel.constants, *others) if _can_hold(t, conv.weights)}
    if len(weights) != 1:
        return UNKNOWN
    (weight,) = weights
    return data.type if data.type == weight else f"{data.type} with {weight} weights"


def _can_hold(tensor: Tensor, weights: tuple[int, ...]) -> bool:
    """Whether a tensor can be the weights, which TensorRT may pad with channels of zeros."""
    if -1 in tensor.shape or math.prod(tensor.shape) < math.prod(weights):
        return False
    if len(tensor.shape) != len(weights):
        return True
    out, *_ = weights
    return tensor.shape[0] >= out and tensor.shape[2:] == weights[2:]


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    assert value is not None and value.shape is not None, "skipfold writes the shapes of all tensors"
    return tuple(value.shape.numpy())
