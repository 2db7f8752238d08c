"""float32 graph + ranges -> Q/DQ graph, by a `Scheme`.

cpu   uint8 activations; int8 weights and int32 biases behind DequantizeLinear; BN and ReLU rewritten
      where ONNX Runtime has no integer kernel for them, so that a branch reads the stream's own codes
      where they leave it enough steps; float32 for what is left (the head).
openvino  the same but for two things: what no convolution reads and is not positive throughout is
      symmetric int8, and BN and ReLU stay as they are. OpenVINO runs such sums without zero points.
gpu   symmetric int8 activations and weights; biases, BN and the rest in float16: TensorRT takes the
      precision from the graph, so what is not quantized must say that it is half. With an fp32 stream
      all of that is left in float32. Between the convolutions of a branch nothing but codes is kept in
      memory either way.
fp8   the gpu flavour with E4M3 codes, on the inputs and weights of all convolutions but the stem.
rtx   for TensorRT for RTX, which fuses other patterns: codes where they cost no kernel
      (`calibration.quantizing.free_codes`), one scale for a whole weight, since the kernels of weights with
      a scale for each channel write float32, and the output channels made alike before, so that one scale
      serves them (`calibration.rewriting.equalize_convolutions`).

Of the flavours for CPUs, the weights of some convolutions are kept so small that no two products overflow
16 bits on a CPU without VNNI (`calibration.quantizing.scales`), at a cost in resolution: with "stem", those
whose input has a zero point above 0 and so large codes throughout, which is the stem and, in the cpu flavour,
what reads the stream; with "proved", all; with "full", none.

Weights are stored as codes. Every consumer of a quantized tensor has a DequantizeLinear of its
own, and scales of activations are true scalars: ONNX Runtime fuses nothing else.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from artifacts.names import (
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_INT8_RTX,
    MODEL_REPARAMETRIZED,
    MODEL_REPARAMETRIZED_BN,
    RANGES,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.quantizing.correct_bias import BiasCorrection, mean_error
from calibration.quantizing.e4m3 import e4m3_activation_scale, e4m3_codes, e4m3_weight_scale
from calibration.quantizing.placement import Use, float_nodes, quantized_uses
from calibration.quantizing.quantize_in_epilogues import quantize_in_epilogues
from calibration.quantizing.scales import (
    UINT8_LEVELS,
    ActivationScale,
    Range,
    activation_scale,
    bias_codes,
    tensor_weight_scale,
    weight_codes,
    weight_scales,
    widened_for_bias,
)
from calibration.quantizing.scheme import Scheme
from calibration.ranges.ranges_from_graph import Calibrated, ranges_from_file
from calibration.rewriting.bn_as_convolution import bn_as_convolution
from calibration.rewriting.equalize_convolutions import equalize_convolutions
from calibration.rewriting.integer_relu import integer_relu
from calibration.rewriting.pool_by_window import pool_by_window
from errors import UserError
from graphs.card import GraphCard
from graphs.narrow import narrow
from graphs.onnx_file import (
    card_of_graph,
    constant,
    graph_from_file,
    initializer,
    remove_unread,
    write_graph,
)

# Of a branch that reads the stream's own codes: two bits less than a scale of its own would give it.
_LEAST_STEPS = 64

FILES = {
    ("int8", "cpu"): MODEL_INT8_CPU,
    ("int8", "openvino"): MODEL_INT8_OPENVINO,
    ("int8", "gpu"): MODEL_INT8_GPU,
    ("fp8", "gpu"): MODEL_FP8_GPU,
    ("int8", "rtx"): MODEL_INT8_RTX,
    ("fp8", "rtx"): MODEL_FP8_RTX,
}


def qdq_from_ranges(run: RunDirectory, scheme: Scheme, force: bool = False) -> bool:
    """Write a Q/DQ graph from a reparametrized graph and ranges.json, unless it is up to date.

    Returns:
        whether anything was done.

    Raises:
        UserError: the ranges were calibrated on another network, or the scheme names a block that
            this one does not have.
    """
    file = FILES[scheme.precision, scheme.flavour]
    source = source_of(scheme)
    step = Step("quantize", scheme.to_json(), (source, RANGES), (file,), ("onnx", "numpy"))
    if run.is_current(step) and not force:
        return False
    model = graph_from_file(run.verified(source))
    card = card_of_graph(model, source)
    calibrated = ranges_from_file(run.verified(RANGES), source)
    if run.record(RANGES).inputs[source] != run.record(source).sha256:
        raise UserError(f"{run.path / RANGES} was made from another {source}", "calibrate again")
    with run.writing(step) as folder:
        write_quantized(model, card, calibrated, scheme, folder / file)
    return True


def write_quantized(
    model: ir.Model, card: GraphCard, calibrated: Mapping[str, Calibrated], scheme: Scheme, path: Path
) -> None:
    """Quantize a float32 graph in place and write it.

    Args:
        card: of the float32 graph.

    Raises:
        UserError: see `quantize`.
    """
    float_convolutions = quantize(model, calibrated, scheme)
    saturation = scheme.saturation if scheme.is_for_cpus else ""
    card = card.with_precision(scheme.precision, scheme.flavour, saturation, float_convolutions)
    write_graph(model, card, path)


def source_of(scheme: Scheme) -> str:
    """The reparametrized graph that a scheme quantizes, one of `ranges_from_graph.GRAPHS`."""
    return MODEL_REPARAMETRIZED_BN if scheme.flavour == "openvino" else MODEL_REPARAMETRIZED


def quantize(model: ir.Model, calibrated: Mapping[str, Calibrated], scheme: Scheme) -> int:
    """Turn a float32 graph into a Q/DQ graph in place.

    Returns:
        the number of convolutions that stay float.

    Raises:
        UserError: a tensor has no range: the ranges belong to another network; or there is no such
            block as the scheme leaves in float.
    """
    left_float = float_nodes(model, scheme.float_blocks)
    if scheme.flavour == "cpu" and scheme.stream == "int8":
        bn_as_convolution(model, left_float)
    uses = quantized_uses(model, scheme, left_float)
    scales = _scales_of(uses, calibrated, scheme)
    correction = BiasCorrection(model, through_batchnorm=scheme.flavour == "openvino")
    at_convolutions = {
        use.consumer: str(use.value.name)
        for use in uses
        if use.consumer.op_type == "Conv" and use.consumer.name not in left_float
    }
    if scheme.flavour == "rtx" and scheme.precision == "int8":
        equalize_convolutions(model, {str(conv.name) for conv in at_convolutions})
    half = not scheme.is_for_cpus and scheme.stream != "fp32"
    if half:
        narrow(model, "fp16")
        uses = [_behind_cast(use) for use in uses]
    real = np.dtype(np.float16 if half else np.float32)
    _quantize_activations(model.graph, uses, scales, real)
    if scheme.flavour == "cpu":
        integer_relu(model.graph)
    for conv, name in at_convolutions.items():
        means = calibrated[name].channel_means
        error = _quantize_weight(model.graph, conv, scales[name], means, scheme, real)
        if scheme.correct_bias:
            correction.subtract(conv, error, real)
    correction.finish()
    if scheme.flavour == "rtx":
        quantize_in_epilogues(model)
        pool_by_window(model)
    if scheme.is_for_cpus:
        for conv, name in at_convolutions.items():
            _quantize_bias(model.graph, conv, scales[name])
    return sum(node.op_type == "Conv" for node in model.graph) - len(at_convolutions)


def _scales_of(
    uses: list[Use], calibrated: Mapping[str, Calibrated], scheme: Scheme
) -> dict[str, ActivationScale]:
    read_by_conv = {use.value.name for use in uses if use.consumer.op_type == "Conv"}
    scales: dict[str, ActivationScale] = {}
    for use in uses:
        name = str(use.value.name)
        if name not in calibrated:
            raise UserError(
                f"{RANGES} has no range for {name}: it belongs to another network",
                "calibrate this network",
            )
        found = calibrated[name].range
        before_relu = scales.get(_input_of_relu(use.value))
        if scheme.flavour == "cpu" and before_relu and _steps(found, before_relu) >= _LEAST_STEPS:
            # A Relu whose input has codes keeps them, for `integer_relu`.
            scales[name] = before_relu
        elif scheme.precision == "fp8":
            scales[name] = e4m3_activation_scale(found)
        else:
            signed = scheme.flavour == "openvino" and found.low < 0 and name not in read_by_conv
            scales[name] = activation_scale(found, symmetric=signed or not scheme.is_for_cpus)
    return scales


def _steps(found: Range, scale: ActivationScale) -> float:
    """How many steps of a scale a range has above 0."""
    return min(found.high / float(scale.scale), UINT8_LEVELS - int(scale.zero_point))


def _input_of_relu(value: ir.Value) -> str:
    """Name of what a Relu makes a value of; empty if none does."""
    node = value.producer()
    return str(node.inputs[0].name) if node is not None and node.op_type == "Relu" else ""  # type: ignore[union-attr]


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


def _quantize_weight(
    graph: ir.Graph,
    conv: ir.Node,
    activation: ActivationScale,
    means: NDArray[np.float64],
    scheme: Scheme,
    real: np.dtype,
) -> NDArray[np.float64]:
    """Weight to int8 or to E4M3; returns the mean error [out] of the output."""
    weight = constant(conv.inputs[1]).astype(np.float32)
    if scheme.precision == "fp8":
        scales = np.asarray(e4m3_weight_scale(weight), real)
        codes = e4m3_codes(weight, scales)
    elif scheme.flavour == "rtx":
        scales = np.asarray(tensor_weight_scale(weight), real)
        codes = weight_codes(weight, scales)
    else:
        scales = _weight_scales(conv, weight, activation, scheme).astype(real)
        codes = weight_codes(weight, scales)
    _store(graph, conv, 1, codes, scales)
    rounded = codes.astype(np.float64) * scales.astype(np.float64).reshape(-1, 1, 1, 1)
    return mean_error(weight, rounded, means)


def _quantize_bias(graph: ir.Graph, conv: ir.Node, activation: ActivationScale) -> None:
    """Bias to int32, in the accumulator's scales."""
    if len(conv.inputs) > 2:
        dequantize = conv.inputs[1].producer()  # type: ignore[union-attr]
        assert dequantize is not None
        accumulator = constant(dequantize.inputs[1]) * activation.scale
        _store(graph, conv, 2, bias_codes(constant(conv.inputs[2]), accumulator), accumulator)


def _weight_scales(
    conv: ir.Node, weight: NDArray[np.float32], activation: ActivationScale, scheme: Scheme
) -> NDArray[np.float32]:
    # Only codes of a tensor with a zero point are large throughout; behind a ReLU most are small.
    large = int(activation.zero_point) > 0
    safe = scheme.saturation == "proved" or (scheme.saturation == "stem" and large)
    scales = weight_scales(weight, saturation_safe=scheme.is_for_cpus and safe)
    if scheme.is_for_cpus and len(conv.inputs) > 2:
        return widened_for_bias(scales, constant(conv.inputs[2]), activation.scale)
    return scales


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
    remove_unread(graph, [old])


def _source_name(value: ir.Value) -> str:
    """Name under which a value was observed: a Cast of the graph's input is the input."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast":
        return str(producer.inputs[0].name)  # type: ignore[union-attr]
    return str(value.name)
