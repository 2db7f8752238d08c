"""Which tensors are quantized, in each flavour of Q/DQ graph.

cpu, for ONNX Runtime and OpenVINO: uint8 activations, everything between the input and the pooling
integer. ONNX Runtime fuses a convolution only if its one output goes to a Q, and an addition only if
both inputs and the output are quantized; so every tensor is, but those that a Relu alone consumes
(it folds into the Q behind it).

gpu, for TensorRT: symmetric int8 at the inputs of convolutions and at the skip operand of each Add,
not behind convolutions, where a pair would split conv + Add. With an int8 stream, what BN takes from
the skip path is that same quantized tensor (NVIDIA's recipe for pre-activation networks); with an
fp16 or fp32 stream the skip path is not quantized at all.

gpu in FP8: the inputs of convolutions alone. Four significant bits rounded at every block would be too
few for the stream. TensorRT has FP8 kernels from 16 channels on, in and out (NVIDIA ModelOpt,
`find_nodes_from_convs_to_exclude`), so the stem stays in float16.
"""

from dataclasses import dataclass

import onnx_ir as ir

from graphs.onnx_file import constant
from graphs.skip_path import junctions

# Of a convolution in FP8, in and out.
_LEAST_FP8_CHANNELS = 16
_QUANTIZED_OUTPUTS = {"Conv", "BatchNormalization", "Relu", "Add"}


@dataclass(frozen=True)
class Use:
    """One quantized edge: `value` as input number `index` of `consumer`."""

    value: ir.Value
    consumer: ir.Node
    index: int


def quantized_uses(model: ir.Model, flavour: str, stream: str = "int8") -> list[Use]:
    """The edges that get a Q/DQ pair.

    Args:
        model: a float graph; for `cpu`, with BN rewritten as convolutions or not.
        flavour: "cpu" or "gpu".
        stream: "int8", "fp16" or "fp32": the skip path of the gpu flavour.
    """
    return _cpu_uses(model) if flavour == "cpu" else _gpu_uses(model, stream)


def fp8_uses(model: ir.Model) -> list[Use]:
    """The edges of a float graph that get a Q/DQ pair in FP8."""
    return [use for use in _gpu_uses(model, "fp16") if _has_fp8_kernel(use.consumer)]


def observed_values(model: ir.Model) -> list[ir.Value]:
    """Every value whose range some flavour needs, in order of execution."""
    uses = [*quantized_uses(model, "cpu"), *quantized_uses(model, "gpu")]
    wanted = {use.value.name for use in uses}
    return [value for value in _values(model) if value.name in wanted]


def _cpu_uses(model: ir.Model) -> list[Use]:
    return [
        Use(value, consumer, index)
        for value in _values(model)
        if {node.op_type for node, _ in value.uses()} != {"Relu"}
        for consumer, index in value.uses()
    ]


def _gpu_uses(model: ir.Model, stream: str) -> list[Use]:
    on_skip = {}
    if stream == "int8":
        for junction in junctions(model):
            on_skip[junction.add] = junction.skip_operand
    uses = []
    for value in _values(model):
        for consumer, index in value.uses():
            to_conv = consumer.op_type == "Conv"
            to_skip = on_skip.get(consumer) == index
            # What is left of BN after folding reads the skip path.
            to_bn = consumer.op_type == "BatchNormalization" and stream == "int8"
            if to_conv or to_skip or to_bn:
                uses.append(Use(value, consumer, index))
    return uses


def _has_fp8_kernel(conv: ir.Node) -> bool:
    out_channels, in_channels, *_ = constant(conv.inputs[1]).shape
    return min(out_channels, in_channels) >= _LEAST_FP8_CHANNELS


def _values(model: ir.Model) -> list[ir.Value]:
    """The input and every activation up to the pooling."""
    outputs = [n.outputs[0] for n in model.graph if n.op_type in _QUANTIZED_OUTPUTS]
    return [model.graph.inputs[0], *outputs]
