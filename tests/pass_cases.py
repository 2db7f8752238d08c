"""Every pass of the project, with a graph for each of the ways in which the pass can end.

Longer than 300 lines because one table holds every pass, so that a pass without a case is seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PreconditionError
from quantized_samples import calibrated_on
from sample_networks import (
    absorbable_network,
    graph_of,
    node_named,
    sample_graph,
    sample_images,
    sample_network,
)
from torch import fx

from calibration.quantizing.activations import QuantizeActivations, activation_scales
from calibration.quantizing.biases import QuantizeBiases
from calibration.quantizing.correct_bias import Corrections
from calibration.quantizing.placement import quantized_uses
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.quantize_in_epilogues import QuantizeInEpilogues
from calibration.quantizing.scheme import FP8, RTX, RTX_FP8, Scheme
from calibration.quantizing.weights import QuantizeWeights, coded_weight
from calibration.rewriting.absorb_batchnorm import AbsorbBatchnorm
from calibration.rewriting.bn_as_convolution import BatchnormAsConvolution
from calibration.rewriting.equalize_convolutions import EqualizeConvolutions
from calibration.rewriting.equalize_stream import CentreStream, EqualizeStream
from calibration.rewriting.integer_relu import IntegerRelu
from calibration.rewriting.pool_by_window import PoolByWindow
from errors import CheckFailed
from export.fold import FoldBatchnorm
from graphs.evaluation import channel_extremes
from graphs.narrow import Narrow
from graphs.onnx_file import constant, replace_constant, typed_copy
from graphs.passes import Pass
from graphs.rounding import ExplicitRounding
from graphs.static_batch import StaticBatch
from graphs.streams import streams_of
from graphs.uint8_input import Uint8Input
from models.config import resnet_config

CONFIG = resnet_config("preact", 8)
FLOAT32 = np.dtype(np.float32)
CPU = Scheme("cpu")
BN = "stage2.0.preact.bn1"
CONV1, CONV2 = "stage2.0.residual.conv1", "stage2.0.residual.conv2"


def absorbable():
    return graph_of(absorbable_network(CONFIG))


def exported():
    return sample_graph(CONFIG)


def original():
    return sample_graph(resnet_config("original", 8))


def narrowed():
    model = exported()
    Narrow("fp16")(model)
    return typed_copy(model)


def quantized():
    model = absorbable()
    Quantize(calibrated_on(model), replace(CPU, stream="fp32"))(model)
    return typed_copy(model)


def traced():
    return fx.symbolic_trace(sample_network(CONFIG))


def with_extremes(kind):
    def make(model):
        values = [value for stream in streams_of(model) for value in stream.scaled]
        return kind(channel_extremes(model, values, sample_images(2)))

    return make


def without_extremes(kind):
    return lambda model: kind({})


def of_activations(model):
    uses = quantized_uses(model, CPU)
    return QuantizeActivations(uses, activation_scales(uses, calibrated_on(model), CPU), FLOAT32)


def without_scales(model):
    return QuantizeActivations(quantized_uses(model, CPU), {}, FLOAT32)


def of_weights(model):
    ranges = calibrated_on(model)
    uses = quantized_uses(model, CPU)
    scales = activation_scales(uses, ranges, CPU)
    weights = {
        use.consumer.name: coded_weight(
            use.consumer, scales[use.value.name], ranges[use.value.name].channel_means, CPU, FLOAT32
        )
        for use in uses
        if use.consumer.op_type == "Conv"
    }
    return QuantizeWeights(weights, Corrections({}, {}), FLOAT32)


def of_weights_elsewhere(model):
    return QuantizeWeights({"nowhere": None}, Corrections({}, {}), FLOAT32)


def of_biases(model):
    ranges = calibrated_on(absorbable())
    uses = quantized_uses(absorbable(), CPU)
    scales = activation_scales(uses, ranges, CPU)
    return QuantizeBiases(
        {use.consumer.name: scales[use.value.name] for use in uses if use.consumer.op_type == "Conv"}
    )


def with_coded_weights():
    model = absorbable()
    of_weights(model)(model)
    return model


def between_codes():
    """Make a graph with Q/DQ pairs around the Relus, none of which is rewritten yet."""
    model = absorbable()
    AbsorbBatchnorm()(model)
    model = typed_copy(model)
    of_activations(model)(model)
    return model


def with_an_input_scale():
    """Make one scale an input of the graph, so that the pass cannot tell what the codes stand for."""
    model = between_codes()
    dequantize = next(node for node in model.graph if node.op_type == "DequantizeLinear")
    dequantize.replace_input_with(1, model.graph.inputs[0])
    return model


def read_in_float():
    """Let another node read the dequantized tensor that a Relu reads."""
    model = between_codes()
    relu = next(node for node in model.graph if node.op_type == "Relu")
    reader = node_named(model, "flatten")
    reader.replace_input_with(0, relu.inputs[0])
    return model


def codes_for_rtx():
    """Make a graph with the Q/DQ pairs of the rtx flavour, in which every weight is still float."""
    model = exported()
    uses = quantized_uses(model, RTX)
    QuantizeActivations(uses, activation_scales(uses, calibrated_on(model), RTX), FLOAT32)(model)
    return model


def codes_in_fp8():
    model = exported()
    Quantize(calibrated_on(model), RTX_FP8)(model)
    return model


def with_a_computed_scale():
    model = codes_for_rtx()
    quantize = next(node for node in model.graph if node.op_type == "QuantizeLinear")
    quantize.replace_input_with(1, model.graph.inputs[0])
    return model


def with_pooling_of(*shape):
    """Make a graph in which the pooling reads a tensor of this shape."""
    model = exported()
    node_named(model, "pool").inputs[0].shape = ir.Shape(shape)
    return model


def with_negative_slope():
    model = absorbable()
    gamma = node_named(model, BN).inputs[1]
    replace_constant(gamma, -constant(gamma))
    return model


def with_a_silent_stream():
    model = original()
    for writers in streams_of(model)[0].writers:
        for conv in writers:
            for parameter in conv.inputs[1:]:
                replace_constant(parameter, 0 * constant(parameter))
    return model


def with_a_huge_weight():
    model = exported()
    bias = node_named(model, "classifier").inputs[2]
    replace_constant(bias, np.full(10, 1e6))
    return model


def of_pixels(channels=3):
    return lambda model: Uint8Input(np.full(channels, 0.02, np.float32), np.ones(channels, np.float32))


def takes_pixels():
    model = exported()
    of_pixels()(model)(model)
    return model


def with_a_batch_of(size):
    model = exported()
    StaticBatch(size)(model)
    return model


def without_types():
    model = narrowed()
    node_named(model, "pool").outputs[0].type = None
    return model


def in_training():
    return fx.symbolic_trace(sample_network(CONFIG).train())


@dataclass(frozen=True)
class Case:
    """A case is a pass with a graph for each of the ways in which the pass can end.

    Attributes:
        make: makes the pass for a graph.
        graph: makes a graph on which the pass has work.
        changed: how many names the pass changes in this graph.
        twin: makes a graph in which the pass of `make_for_twin` refuses something.
        refused: the names that are refused there, or the error that is raised; empty for a pass that
            never refuses, which changes nothing there.
        untakeable: makes a graph that the pass of `make_untakeable` cannot take.
        told: why that pass cannot take the graph.
    """

    make: Callable[[Any], Pass[Any]]
    graph: Callable[[], Any]
    changed: int
    twin: Callable[[], Any]
    refused: set[str] | type[Exception]
    untakeable: Callable[[], Any]
    told: str
    make_for_twin: Callable[[Any], Pass[Any]] | None = None
    make_untakeable: Callable[[Any], Pass[Any]] | None = None


CASES = {
    "absorb": Case(
        make=lambda model: AbsorbBatchnorm(),
        graph=absorbable,
        changed=4,
        twin=with_negative_slope,
        refused={BN},
        untakeable=narrowed,
        told="float16, not float32",
    ),
    "centre": Case(
        make=with_extremes(CentreStream),
        graph=exported,
        changed=4,
        twin=original,
        refused={"stem.relu", "stage1.0.relu", "stage2.0.relu", "stage3.0.relu"},
        untakeable=exported,
        make_untakeable=without_extremes(CentreStream),
        told="the extremes of stem.conv are missing",
    ),
    "equalize": Case(
        make=with_extremes(EqualizeStream),
        graph=exported,
        changed=4,
        twin=with_a_silent_stream,
        refused={"stem.relu"},
        untakeable=exported,
        make_untakeable=without_extremes(EqualizeStream),
        told="the extremes of stem.conv are missing",
    ),
    "equalize_convolutions": Case(
        make=lambda model: EqualizeConvolutions({CONV1}),
        graph=exported,
        changed=1,
        twin=exported,
        make_for_twin=lambda model: EqualizeConvolutions({CONV2}),
        refused={CONV2},
        untakeable=narrowed,
        told="float16, not float32",
    ),
    "quantize_in_epilogues": Case(
        make=lambda model: QuantizeInEpilogues(),
        graph=codes_for_rtx,
        changed=2,
        twin=codes_in_fp8,
        refused={"stage1.0.preact.relu1.quantize"},
        untakeable=with_a_computed_scale,
        told="a parameter of QuantizeLinear .* is no constant",
    ),
    "pool_by_window": Case(
        make=lambda model: PoolByWindow(),
        graph=exported,
        changed=1,
        twin=lambda: with_pooling_of("N", 64, "H", 8),
        refused={"pool"},
        untakeable=lambda: with_pooling_of("N", 64, 64),
        told="has 3 dimensions, not 4",
    ),
    "integer_relu": Case(
        make=lambda model: IntegerRelu(),
        graph=between_codes,
        changed=1,
        twin=read_in_float,
        refused={"stage1.0.preact.relu1"},
        untakeable=with_an_input_scale,
        told="a parameter of DequantizeLinear .* is no constant",
    ),
    "bn_as_convolution": Case(
        make=lambda model: BatchnormAsConvolution(),
        graph=exported,
        changed=4,
        twin=exported,
        make_for_twin=lambda model: BatchnormAsConvolution({BN}),
        refused={BN},
        untakeable=quantized,
        told="so the graph is quantized already",
    ),
    "narrow": Case(
        make=lambda model: Narrow("fp16"),
        graph=exported,
        changed=30,
        twin=with_a_huge_weight,
        refused=CheckFailed,
        untakeable=narrowed,
        told="float16, not float32",
    ),
    "rounding": Case(
        make=lambda model: ExplicitRounding(),
        graph=narrowed,
        changed=26,
        twin=exported,
        refused=set(),
        untakeable=without_types,
        told="the type of pool is not known",
    ),
    "uint8_input": Case(
        make=of_pixels(),
        graph=exported,
        changed=5,
        twin=exported,
        make_for_twin=of_pixels(channels=1),
        refused=PreconditionError,
        untakeable=takes_pixels,
        told="images is UINT8",
    ),
    "static_batch": Case(
        make=lambda model: StaticBatch(8),
        graph=exported,
        changed=27,
        twin=lambda: with_a_batch_of(4),
        refused=PreconditionError,
        untakeable=exported,
        make_untakeable=lambda model: StaticBatch(0),
        told="a batch of 0 holds no picture",
    ),
    "quantize": Case(
        make=lambda model: Quantize(calibrated_on(model), CPU),
        graph=exported,
        changed=13,
        twin=exported,
        make_for_twin=lambda model: Quantize(calibrated_on(model), FP8),
        refused={"stem.conv"},
        untakeable=quantized,
        make_untakeable=lambda model: Quantize({}, CPU),
        told="so the graph is quantized already",
    ),
    "quantize_activations": Case(
        make=of_activations,
        graph=exported,
        changed=17,
        twin=exported,
        make_for_twin=lambda model: QuantizeActivations([], {}, FLOAT32),
        refused=set(),
        untakeable=exported,
        make_untakeable=without_scales,
        told="the scale of images is missing",
    ),
    "quantize_weights": Case(
        make=of_weights,
        graph=exported,
        changed=9,
        twin=exported,
        make_for_twin=lambda model: QuantizeWeights({}, Corrections({}, {}), FLOAT32),
        refused=set(),
        untakeable=exported,
        make_untakeable=of_weights_elsewhere,
        told="there is no convolution nowhere",
    ),
    "quantize_biases": Case(
        make=of_biases,
        graph=with_coded_weights,
        changed=3,
        twin=with_coded_weights,
        make_for_twin=lambda model: QuantizeBiases({}),
        refused=set(),
        untakeable=absorbable,
        told="there is no convolution .* with a coded weight",
    ),
    "fold": Case(
        make=lambda network: FoldBatchnorm(),
        graph=traced,
        changed=3,
        twin=traced,
        refused={"stage1.0.preact.bn1", BN, "stage3.0.preact.bn1", "head.bn"},
        untakeable=in_training,
        told="stage1.0.preact.bn1 is in training mode",
    ),
}
