"""float32 graph + ranges -> Q/DQ graph, INT8 in the `cpu` or the `gpu` flavour, or FP8.

cpu   uint8 activations; int8 weights and int32 biases behind DequantizeLinear; BN rewritten as a
      depthwise convolution; float32 for what is left (the head).
gpu   symmetric int8 activations and weights; biases, BN and the rest in float16: TensorRT takes the
      precision from the graph, so what is not quantized must say that it is half. With an fp32 stream
      it is left in float32: the skip path and what reads it. Between the convolutions of a branch
      nothing but codes is kept in memory either way.
fp8   the gpu flavour with E4M3 codes, on the inputs and weights of all convolutions but the stem.

Weights are stored as codes. Every consumer of a quantized tensor has a DequantizeLinear of its
own, and scales of activations are true scalars: ONNX Runtime fuses nothing else.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from artifacts import MODEL, MODEL_FP8_GPU, MODEL_INT8_CPU, MODEL_INT8_GPU, RANGES, RunDirectory, Step
from calibration.bn_as_convolution import bn_as_convolution
from calibration.e4m3 import E4M3, e4m3_activation_scale, e4m3_codes, e4m3_weight_scale
from calibration.methods import Range
from calibration.placement import Use, fp8_uses, quantized_uses
from calibration.ranges import ranges_from_file
from calibration.scales import (
    ActivationScale,
    activation_scale,
    bias_codes,
    weight_codes,
    weight_scales,
    widened_for_bias,
)
from errors import UserError
from graphs.narrow import narrow
from graphs.onnx_file import card_of, constant, graph_from_file, initializer, write_graph

FILES = {"cpu": MODEL_INT8_CPU, "gpu": MODEL_INT8_GPU}
STREAMS = ("int8", "fp16", "fp32")

Ranges = dict[str, Range]


def qdq_from_ranges(run: RunDirectory, flavour: str, stream: str = "int8", force: bool = False) -> bool:
    """Write the Q/DQ graph of a flavour from model.onnx and ranges.json, unless up to date.

    Args:
        stream: the skip path of the gpu flavour, one of `STREAMS`; the cpu flavour's is int8.

    Returns:
        whether anything was done.

    Raises:
        UserError: the ranges were calibrated on another network.
    """
    options = {"flavour": flavour} | ({"stream": stream} if flavour == "gpu" else {})
    step = Step("quantize", options, (MODEL, RANGES), (FILES[flavour],), ("onnx", "numpy"))
    kind = ("int8", flavour)
    return _written(run, step, kind, lambda model, ranges: quantize(model, ranges, flavour, stream), force)


def fp8_from_ranges(run: RunDirectory, force: bool = False) -> bool:
    """Write the FP8 graph; as `qdq_from_ranges`."""
    options = {"flavour": "gpu", "precision": "fp8"}
    step = Step("quantize", options, (MODEL, RANGES), (MODEL_FP8_GPU,), ("onnx", "numpy"))
    return _written(run, step, ("fp8", "gpu"), quantize_to_fp8, force)


def _written(
    run: RunDirectory,
    step: Step,
    kind: tuple[str, str],
    transform: Callable[[ir.Model, Ranges], None],
    force: bool,
) -> bool:
    """Do a step that makes one Q/DQ graph of some precision and flavour, unless it is up to date."""
    if run.is_current(step) and not force:
        return False
    model = graph_from_file(run.verified(MODEL))
    card = card_of(model, MODEL)
    ranges = ranges_from_file(run.verified(RANGES))
    if run.record(RANGES).inputs[MODEL] != run.record(MODEL).sha256:
        raise UserError(f"{run.path / RANGES} was made from another {MODEL}", "calibrate again")
    with run.writing(step) as folder:
        transform(model, ranges)
        write_graph(model, card.with_precision(*kind), folder / step.outputs[0])
    return True


def quantize(model: ir.Model, ranges: Ranges, flavour: str, stream: str = "int8") -> None:
    """Turn a float32 graph into an INT8 graph in place.

    Raises:
        UserError: a tensor has no range: the ranges belong to another network.
    """
    if flavour == "cpu":
        bn_as_convolution(model)
    uses = quantized_uses(model, flavour, stream)
    scales = _scales_of(uses, ranges, lambda found: activation_scale(found, flavour))
    _insert_pairs(model, uses, scales, flavour, half=flavour == "gpu" and stream != "fp32")


def quantize_to_fp8(model: ir.Model, ranges: Ranges) -> None:
    """Turn a float32 graph into an FP8 graph in place; UserError as `quantize`."""
    uses = fp8_uses(model)
    scales = _scales_of(uses, ranges, e4m3_activation_scale)
    _insert_pairs(model, uses, scales, "gpu", half=True)


def _scales_of(
    uses: list[Use], ranges: Ranges, scale_of: Callable[[Range], ActivationScale]
) -> dict[str, ActivationScale]:
    scales = {}
    for use in uses:
        name = str(use.value.name)
        if name not in ranges:
            raise UserError(
                f"{RANGES} has no range for {name}: it belongs to another network",
                "calibrate this network",
            )
        scales[name] = scale_of(ranges[name])
    return scales


def _insert_pairs(
    model: ir.Model, uses: list[Use], scales: dict[str, ActivationScale], flavour: str, half: bool
) -> None:
    """Put the pairs in and quantize the weights; `half`: what stays float becomes float16."""
    at_convolutions = [use for use in uses if use.consumer.op_type == "Conv"]
    convolutions = {use.consumer: scales[str(use.value.name)] for use in at_convolutions}
    if half:
        narrow(model, "fp16")
        uses = [_behind_cast(use) for use in uses]
    real = np.dtype(np.float16 if half else np.float32)
    _quantize_activations(model.graph, uses, scales, real)
    for conv, activation in convolutions.items():
        _quantize_parameters(model.graph, conv, activation, flavour, real)


def _behind_cast(use: Use) -> Use:
    """The same edge after the conversion to float16, which put a Cast behind the graph's input."""
    value = use.consumer.inputs[use.index]
    assert value is not None
    return Use(value, use.consumer, use.index)


def _quantize_activations(
    graph: ir.Graph, uses: list[Use], scales: dict[str, ActivationScale], real: np.dtype
) -> None:
    by_value: dict[ir.Value, list[Use]] = defaultdict(list)
    for use in uses:
        by_value[use.value].append(use)
    for value, own in by_value.items():
        name = _source_name(value)
        scale = scales[name]
        parameters = [
            initializer(graph, f"{name}.scale", np.asarray(scale.scale, real)),
            initializer(graph, f"{name}.zero_point", np.asarray(scale.zero_point)),
        ]
        quantize_node = ir.node("QuantizeLinear", [value, *parameters], name=f"{name}.quantize")
        codes = quantize_node.outputs[0]
        codes.name = f"{name}.codes"
        producer = value.producer()
        if producer is None:
            graph.insert_before(next(iter(graph)), quantize_node)
        else:
            graph.insert_after(producer, quantize_node)
        for number, use in enumerate(own):
            dequantize = ir.node("DequantizeLinear", [codes, *parameters], name=f"{name}.dequantize{number}")
            dequantize.outputs[0].name = f"{name}.dequantized{number}"
            graph.insert_before(use.consumer, dequantize)
            use.consumer.replace_input_with(use.index, dequantize.outputs[0])


def _quantize_parameters(
    graph: ir.Graph, conv: ir.Node, activation: ActivationScale, flavour: str, real: np.dtype
) -> None:
    """Weight to int8 per output channel, or to E4M3; in the cpu flavour, bias to int32."""
    weight = constant(conv.inputs[1]).astype(np.float32)
    if isinstance(activation.zero_point, E4M3):
        scale = np.asarray(e4m3_weight_scale(weight), real)
        _store(graph, conv, 1, e4m3_codes(weight, scale), scale)
        return
    # Only codes of a tensor with a zero point are large throughout; behind a ReLU most are small.
    per_channel = weight_scales(weight, saturation_safe=flavour == "cpu" and int(activation.zero_point) > 0)
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    if flavour == "cpu" and bias is not None:
        per_channel = widened_for_bias(per_channel, constant(bias), activation.scale)
    stored = per_channel.astype(real)
    _store(graph, conv, 1, weight_codes(weight, stored), stored)
    if flavour == "cpu" and bias is not None:
        accumulator = per_channel * activation.scale
        _store(graph, conv, 2, bias_codes(constant(bias), accumulator), accumulator)


def _store(graph: ir.Graph, conv: ir.Node, index: int, codes: np.ndarray, scales: np.ndarray) -> None:
    """Replace a float initializer by codes and a DequantizeLinear, over axis 0 if scales are many."""
    old = conv.inputs[index]
    assert old is not None
    name = str(old.name)
    inputs = [
        initializer(graph, f"{name}.codes", codes),
        initializer(graph, f"{name}.scales", scales),
    ]
    if codes.dtype != np.int32:
        inputs.append(initializer(graph, f"{name}.zero_points", np.zeros(scales.shape, codes.dtype)))
    dequantize = ir.node("DequantizeLinear", inputs, {"axis": 0}, name=f"{name}.dequantize")
    dequantize.outputs[0].name = f"{name}.dequantized"
    graph.insert_before(conv, dequantize)
    conv.replace_input_with(index, dequantize.outputs[0])
    if not old.uses():
        del graph.initializers[name]


def _source_name(value: ir.Value) -> str:
    """Name under which a value was observed: a Cast of the graph's input is the input."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast":
        return str(producer.inputs[0].name)  # type: ignore[union-attr]
    return str(value.name)
