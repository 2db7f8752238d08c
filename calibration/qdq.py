"""float32 graph + ranges -> Q/DQ graph, in the `cpu` or the `gpu` flavour.

cpu   uint8 activations; int8 weights and int32 biases behind DequantizeLinear; BN rewritten as a
      depthwise convolution; float32 for what is left (the head).
gpu   symmetric int8 activations and weights; biases, BN and the rest in float16: TensorRT takes the
      precision from the graph, so what is not quantized must say that it is half.

Of the cpu flavour, the weights of some convolutions are kept so small that no two products overflow
16 bits on a CPU without VNNI (`calibration.scales`), at a cost in resolution: with "stem", those whose
input has a zero point above 0 and so large codes throughout, which is the stem; with "proved", all;
with "full", none.

Weights are stored as integers. Every consumer of a quantized tensor has a DequantizeLinear of its
own, and scales of activations are true scalars: ONNX Runtime fuses nothing else.
"""

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from artifacts import MODEL, MODEL_INT8_CPU, MODEL_INT8_GPU, RANGES, RunDirectory, Step
from calibration.bn_as_convolution import bn_as_convolution
from calibration.placement import Use, quantized_uses
from calibration.ranges import ranges_from_file
from calibration.scales import (
    ActivationScale,
    Range,
    activation_scale,
    bias_codes,
    weight_codes,
    weight_scales,
    widened_for_bias,
)
from errors import UserError
from graphs.half import convert_to_half
from graphs.onnx_file import card_of, constant, graph_from_file, initializer, write_graph

FILES = {"cpu": MODEL_INT8_CPU, "gpu": MODEL_INT8_GPU}
STREAMS = ("int8", "fp16")


def qdq_from_ranges(
    run: RunDirectory, flavour: str, stream: str = "int8", force: bool = False, saturation: str = "stem"
) -> bool:
    """Write the Q/DQ graph of a flavour from model.onnx and ranges.json, unless up to date.

    Args:
        stream: the skip path of the gpu flavour, "int8" or "fp16"; the cpu flavour's is int8.
        saturation: "stem", "proved" or "full", as above, of the cpu flavour.

    Returns:
        whether anything was done.

    Raises:
        UserError: the ranges were calibrated on another network.
    """
    own = {"stream": stream} if flavour == "gpu" else {"saturation": saturation}
    options = {"flavour": flavour} | own
    step = Step("quantize", options, (MODEL, RANGES), (FILES[flavour],), ("onnx", "numpy"))
    if run.is_current(step) and not force:
        return False
    model = graph_from_file(run.verified(MODEL))
    card = card_of(model, MODEL)
    ranges = ranges_from_file(run.verified(RANGES))
    if run.record(RANGES).inputs[MODEL] != run.record(MODEL).sha256:
        raise UserError(f"{run.path / RANGES} was made from another {MODEL}", "calibrate again")
    with run.writing(step) as folder:
        quantize(model, ranges, flavour, stream, saturation)
        quantized = card.with_precision("int8", flavour, saturation if flavour == "cpu" else "")
        write_graph(model, quantized, folder / FILES[flavour])
    return True


def quantize(
    model: ir.Model,
    ranges: dict[str, Range],
    flavour: str,
    stream: str = "int8",
    saturation: str = "stem",
) -> None:
    """Turn a float32 graph into a Q/DQ graph in place.

    Raises:
        UserError: a tensor has no range: the ranges belong to another network.
    """
    if flavour == "cpu":
        bn_as_convolution(model)
    uses = quantized_uses(model, flavour, stream)
    scales = {}
    for use in uses:
        name = str(use.value.name)
        if name not in ranges:
            raise UserError(
                f"{RANGES} has no range for {name}: it belongs to another network",
                "calibrate this network",
            )
        scales[name] = activation_scale(ranges[name], flavour)
    if flavour == "gpu":
        convert_to_half(model)
        uses = [_behind_cast(use) for use in uses]
    _quantize_activations(model.graph, uses, scales, flavour)
    for node in list(model.graph):
        if node.op_type == "Conv":
            _quantize_parameters(model.graph, node, scales, flavour, saturation)


def _behind_cast(use: Use) -> Use:
    """The same edge after the conversion to half, which put a Cast behind the graph's input."""
    value = use.consumer.inputs[use.index]
    assert value is not None
    return Use(value, use.consumer, use.index)


def _quantize_activations(
    graph: ir.Graph, uses: list[Use], scales: dict[str, ActivationScale], flavour: str
) -> None:
    by_value: dict[ir.Value, list[Use]] = defaultdict(list)
    for use in uses:
        by_value[use.value].append(use)
    for value, own in by_value.items():
        name = _source_name(value)
        scale = scales[name]
        parameters = [
            initializer(graph, f"{name}.scale", _scalar(scale.scale, flavour)),
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
    graph: ir.Graph, conv: ir.Node, scales: dict[str, ActivationScale], flavour: str, saturation: str
) -> None:
    """Weight to int8 per output channel; in the cpu flavour, bias to int32."""
    activation = scales[_quantized_source(conv)]
    weight = constant(conv.inputs[1]).astype(np.float32)
    # Only codes of a tensor with a zero point are large throughout; behind a ReLU most are small.
    safe = saturation == "proved" or (saturation == "stem" and int(activation.zero_point) > 0)
    per_channel = weight_scales(weight, saturation_safe=flavour == "cpu" and safe)
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    if flavour == "cpu" and bias is not None:
        per_channel = widened_for_bias(per_channel, constant(bias), activation.scale)
    stored = per_channel.astype(np.float16) if flavour == "gpu" else per_channel
    _store(graph, conv, 1, weight_codes(weight, stored), stored)
    if flavour == "cpu" and bias is not None:
        accumulator = per_channel * activation.scale
        _store(graph, conv, 2, bias_codes(constant(bias), accumulator), accumulator)


def _store(graph: ir.Graph, conv: ir.Node, index: int, codes: np.ndarray, scales: np.ndarray) -> None:
    """Replace a float initializer by integers and a DequantizeLinear over axis 0."""
    old = conv.inputs[index]
    assert old is not None
    name = str(old.name)
    inputs = [
        initializer(graph, f"{name}.codes", codes),
        initializer(graph, f"{name}.scales", scales),
    ]
    if codes.dtype == np.int8:
        inputs.append(initializer(graph, f"{name}.zero_points", np.zeros(len(codes), np.int8)))
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


def _quantized_source(conv: ir.Node) -> str:
    """Name of the tensor whose codes a convolution reads."""
    dequantize = conv.inputs[0].producer()  # type: ignore[union-attr]
    assert dequantize is not None and dequantize.op_type == "DequantizeLinear"
    quantize_node = dequantize.inputs[0].producer()  # type: ignore[union-attr]
    assert quantize_node is not None
    return _source_name(quantize_node.inputs[0])  # type: ignore[arg-type]


def _scalar(value: np.float32, flavour: str) -> np.ndarray:
    return np.asarray(value, np.float16 if flavour == "gpu" else np.float32)
