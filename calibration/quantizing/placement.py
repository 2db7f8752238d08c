"""Which tensors are quantized, in each flavour of Q/DQ graph.

cpu and openvino: everything between the input and the pooling is integer. ONNX Runtime fuses a convolution
only if the convolution's one output goes to a QuantizeLinear, and an addition only if both inputs and the
output are quantized. So every tensor is quantized, except those that only a Relu reads, because the Relu
folds into the QuantizeLinear behind it. OpenVINO adds within the convolution if there is a QuantizeLinear
between the two. With an fp32 stream, what the Adds write is quantized only where a convolution reads it.

gpu, for TensorRT: symmetric int8 at the inputs of convolutions and at the skip operand of each Add. There
is no pair behind a convolution, because it would split convolution and Add. With an int8 stream, BN or Relu
read that same quantized tensor from the skip path (NVIDIA's recipe for pre-activation networks); with an
fp16 or fp32 stream the skip path is not quantized at all.

gpu in FP8: the inputs of convolutions alone. Four significant bits, rounded at every block, would be too
few for the stream. TensorRT has FP8 kernels from 16 channels on, in and out (NVIDIA ModelOpt,
`find_nodes_from_convs_to_exclude`), so the stem with its 3 input channels stays in float16.

rtx, for TensorRT for RTX: the inputs of some convolutions, see `calibration.quantizing.free_codes`.

A block that is left in float reads the stream as the other blocks leave it. Of its own tensors, the cpu
flavour quantizes only the block's sum, and the other flavours none.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from calibration.quantizing.free_codes import convolutions_with_free_codes
from calibration.quantizing.scheme import Scheme
from errors import UserError
from graphs.onnx_file import constant
from graphs.skip_path import junctions
from vocabulary import Flavour, Precision, Stream

# TensorRT's FP8 convolutions have at least so many channels, in and out.
LEAST_FP8_CHANNELS = 16
# The operators whose outputs are the activations of stem, blocks and head, up to the pooling.
_QUANTIZED_OUTPUTS = {"Conv", "BatchNormalization", "Relu", "Add"}


@dataclass(frozen=True)
class Use:
    """A quantized edge is `value` as input number `index` of `consumer`."""

    value: ir.Value
    consumer: ir.Node
    index: int


def quantized_uses(model: ir.Model, scheme: Scheme, left_float: Collection[str] = ()) -> list[Use]:
    """Return the edges that get a Q/DQ pair.

    Args:
        model: a float graph; in the cpu flavour BN may be rewritten already or not.
        left_float: names of the nodes that stay float, see `float_nodes`.
    """
    if scheme.is_for_cpus:
        return _cpu_uses(model, scheme, left_float)
    if scheme.flavour == Flavour.rtx:
        uses = _inputs_of(convolutions_with_free_codes(model, scheme, left_float))
    else:
        uses = _gpu_uses(model, scheme, left_float)
    if scheme.precision == Precision.fp8:
        return [use for use in uses if has_fp8_kernel(use.consumer)]
    return uses


def float_nodes(model: ir.Model, blocks: Collection[str]) -> set[str]:
    """Return the names of all nodes of some blocks, their Adds among them.

    Args:
        model: a float graph, before anything is rewritten for a runtime.
        blocks: names of the Adds that end the blocks.

    Raises:
        UserError: there is no such block; lists the blocks there are.
    """
    by_name = {str(junction.add.name): junction for junction in junctions(model)} if blocks else {}
    if unknown := sorted(set(blocks) - set(by_name)):
        raise UserError(
            f"there is no block that ends in {', '.join(unknown)}", f"use some of {', '.join(by_name)}"
        )
    chosen = [by_name[name] for name in blocks]
    return {str(node.name) for block in chosen for node in (*block.residual, *block.skip, block.add)}


def has_fp8_kernel(conv: ir.Node) -> bool:
    """Tell whether TensorRT can run a convolution in FP8."""
    out_channels, in_channels, *_ = constant(conv.inputs[1]).shape
    return min(out_channels, in_channels) >= LEAST_FP8_CHANNELS


def observed_values(model: ir.Model) -> list[ir.Value]:
    """Return every value whose range some flavour needs, in order of execution."""
    uses = [*quantized_uses(model, Scheme(Flavour.cpu)), *quantized_uses(model, Scheme(Flavour.gpu))]
    wanted = {use.value.name for use in uses}
    return [value for value in _values(model) if value.name in wanted]


def _cpu_uses(model: ir.Model, scheme: Scheme, left_float: Collection[str]) -> list[Use]:
    uses = []
    for value in _values(model):
        producer = value.producer()
        within_float = producer is not None and producer.name in left_float and producer.op_type != "Add"
        folds_into_relu = {node.op_type for node, _ in value.uses()} == {"Relu"}
        if within_float or folds_into_relu:
            continue
        by_convolutions_alone = scheme.stream == Stream.fp32 and _ends_block(value)
        uses += [
            Use(value, consumer, index)
            for consumer, index in value.uses()
            if consumer.op_type == "Conv" or not by_convolutions_alone
        ]
    return uses


def _ends_block(value: ir.Value | None) -> bool:
    """Tell whether a value is a block's sum, or what BN and Relu make of a block's sum."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type not in ("Add", "BatchNormalization", "Relu"):
        return False
    return producer.op_type == "Add" or _ends_block(producer.inputs[0])


def _gpu_uses(model: ir.Model, scheme: Scheme, left_float: Collection[str]) -> list[Use]:
    on_skip, skip_values = {}, set()
    if scheme.stream == Stream.int8:
        for junction in junctions(model):
            on_skip[junction.add] = junction.skip_operand
            skip_values.add(junction.skip_value)
    uses = []
    for value in _values(model):
        for consumer, index in value.uses():
            to_conv = consumer.op_type == "Conv"
            to_skip = on_skip.get(consumer) == index
            to_branch = consumer.op_type in ("BatchNormalization", "Relu") and value in skip_values
            # No Add reads the last sum of a stage, but the BN of the next stage or of the head does.
            to_bn = consumer.op_type == "BatchNormalization" and scheme.stream == Stream.int8
            if (to_conv or to_skip or to_branch or to_bn) and consumer.name not in left_float:
                uses.append(Use(value, consumer, index))
    return uses


def _inputs_of(convolutions: Iterable[ir.Node]) -> list[Use]:
    return [Use(conv.inputs[0], conv, 0) for conv in convolutions if conv.inputs[0] is not None]


def _values(model: ir.Model) -> list[ir.Value]:
    """Return the graph's input and every activation up to the pooling, in order of execution."""
    outputs = [n.outputs[0] for n in model.graph if n.op_type in _QUANTIZED_OUTPUTS]
    return [model.graph.inputs[0], *outputs]
