"""Which convolutions TensorRT for RTX gets quantized: those whose input becomes codes without a kernel more.

RTX (1.7.1, read from the tables of final kernels) runs a Q/DQ graph by these rules:

    (1) A convolution of codes writes float16. Its kernel takes the bias and the ReLU into the epilogue and,
        in INT8, the addition of the skip path, but no QuantizeLinear and, in FP8, no addition.
    (2) QuantizeLinear is a kernel of its own, which reads 2 bytes and writes 1 for each element, unless
    (3) a kernel of BN or ReLU is there anyway, because the stream that it reads goes on to an addition, as
        in a pre-activation network: that kernel then writes 1 byte instead of 2; or
    (4) a float16 convolution writes the tensor. The kernel of that convolution then writes INT8 codes if the
        rounding is written in arithmetic, see `calibration.quantizing.quantize_in_epilogues`.

A convolution that reads codes instead of float16 saves 1 byte for each element of its input, and a
QuantizeLinear after (2) costs 3. So a convolution is quantized where (3) or (4) gives its input's codes for
nothing, and float16 elsewhere. Behind a quantized convolution comes a float16 one, whose epilogue writes the
codes for the next: in a pre-activation bottleneck the 1x1 convolutions compute in INT8 and the 3x3
convolution between them in float16, and in an original one the 3x3 convolution alone computes in INT8.

Two exceptions. The stem stays float16, because INT8 codes of the images would save 0.6 % of the bytes at
depth 20 and cost 1 dB. And a convolution that makes a wider tensor than it reads stays float16 if
convolutions alone read that tensor, as at the end of a stage of bottlenecks: by (4) the wide tensor is
then written in codes, at 1 byte instead of 2.

In FP8, where (4) does not hold, no convolution of an original network comes for nothing, nor of one with
one block a stage. All that end no block are then quantized, so that the graph is what its name says; such
a graph moves more bytes than FP16's.
"""

import math
from collections.abc import Collection, Container

import onnx_ir as ir

from calibration.quantizing.scheme import Scheme
from graphs.epilogue import convolutions_that_write, end_of_epilogue, is_read_by_convolutions_alone
from graphs.onnx_file import constant
from graphs.skip_path import junctions
from vocabulary import Precision


def convolutions_with_free_codes(
    model: ir.Model, scheme: Scheme, left_float: Collection[str] = ()
) -> list[ir.Node]:
    """The convolutions that are quantized in the rtx flavour, in order of execution.

    Args:
        model: float graph.
        left_float: names of nodes that the scheme leaves in float.
    """
    convolutions = [
        node
        for node in model.graph
        if node.op_type == "Conv" and node.name not in left_float and not _reads_images(node)
    ]
    coded: dict[str, ir.Node] = {}
    for conv in convolutions:
        widens = scheme.precision == Precision.int8 and _widens_for_others(conv)
        if _is_free(conv, scheme, coded) and not widens:
            coded[str(conv.name)] = conv
    if not coded and scheme.precision == Precision.fp8:
        ends = {junction.residual[-1] for junction in junctions(model)}
        return [conv for conv in convolutions if conv not in ends]
    return list(coded.values())


def _reads_images(conv: ir.Node) -> bool:
    value = conv.inputs[0]
    return value is not None and value.is_graph_input()


def _is_free(conv: ir.Node, scheme: Scheme, coded: Container[str]) -> bool:
    """Whether codes of a convolution's input cost no kernel, by (3) or (4)."""
    value = conv.inputs[0]
    if value is None or not is_read_by_convolutions_alone(value):
        return False
    writers = convolutions_that_write(value)
    if not writers:
        return True
    return scheme.precision == Precision.int8 and any(writer.name not in coded for writer in writers)


def _widens_for_others(conv: ir.Node) -> bool:
    """Whether a convolution makes more elements than it alone reads, all of them for convolutions."""
    out_channels, in_channels, *_ = constant(conv.inputs[1]).shape
    pixels_read_for_one = math.prod(conv.attributes.get_ints("strides", [1, 1]))
    widens = out_channels > in_channels * pixels_read_for_one
    # A projection shares its input with the residual branch, whose last convolution adds the two.
    reads_alone = conv.inputs[0] is not None and len(conv.inputs[0].uses()) == 1
    return widens and reads_alone and is_read_by_convolutions_alone(end_of_epilogue(conv))
