"""Pixels in and probabilities out, with the bits of Python's normalisation, in every graph for CPUs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import PreconditionError
from quantized_samples import CPU, NETWORKS, OPENVINO, every_network, named, quantized_and_count
from sample_networks import run_graph, sample_card, sample_graph

from data.dataset import normalised, scale_and_shift
from graphs.card import GraphCard
from graphs.onnx_file import graph_from_file, write_graph
from graphs.uint8_input import Uint8Input
from models.config import ResNetConfig
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime
from runtimes.runtime import Runtime
from verification.probabilities import probabilities

# Three different ones each, so that a channel in the place of another is seen.
MEAN, STD = (0.49, 0.41, 0.33), (0.24, 0.29, 0.19)
SCALE, SHIFT = scale_and_shift(MEAN, STD)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
NHWC = np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1))
BY_RUNTIME = [(OrtRuntime, None), (OrtRuntime, CPU)]
BY_RUNTIME += [(OpenVinoRuntime, scheme) for scheme in (None, CPU, OPENVINO)]


def _written(config: ResNetConfig, scheme, folder: Path) -> tuple[Path, Path]:
    """Write a graph, and the same graph with pixels at its input."""
    card: GraphCard = replace(sample_card(config), mean=MEAN, std=STD)
    graph = sample_graph(config)
    if scheme is not None:
        graph, in_float = quantized_and_count(config, scheme)
        card = card.with_precision("int8", scheme.flavour, scheme.saturation, in_float)
    write_graph(graph, card, folder / "model.onnx")
    graph = graph_from_file(folder / "model.onnx")
    Uint8Input(SCALE, SHIFT)(graph)
    write_graph(graph, card.adapted(takes_pixels=True, batch=0), folder / "model.u8.onnx")
    return folder / "model.onnx", folder / "model.u8.onnx"


def _outputs(kind: type[Runtime], path: Path, precision: str, images: np.ndarray):
    with kind(path, precision) as runtime:
        return runtime.infer(images), runtime.describe()["convolutions"]


@every_network
@pytest.mark.parametrize(
    ("kind", "scheme"),
    BY_RUNTIME,
    ids=[f"{kind.name}-{scheme and named(scheme)}" for kind, scheme in BY_RUNTIME],
)
def test_probabilities_are_the_softmax_of_the_original_graph_in_as_many_integer_convolutions(
    network: ResNetConfig, kind: type[Runtime], scheme, tmp_path: Path
) -> None:
    plain, adapted = _written(network, scheme, tmp_path)
    precision = "fp32" if scheme is None else "int8"
    logits, convolutions = _outputs(kind, plain, precision, normalised(PIXELS, MEAN, STD))
    shares, convolutions_after = _outputs(kind, adapted, precision, NHWC)
    assert convolutions_after == convolutions
    np.testing.assert_array_equal(shares.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(shares, probabilities(logits), rtol=0, atol=4e-6)
    if kind is OrtRuntime:
        np.testing.assert_allclose(shares, probabilities(logits), rtol=0, atol=1e-6)


def test_normalised_images_and_logits_are_equal_to_the_bit_in_onnx_runtime() -> None:
    graph = sample_graph(NETWORKS[0])
    (logits,) = run_graph(graph, normalised(PIXELS, MEAN, STD))
    Uint8Input(SCALE, SHIFT)(graph)
    inside = {value.name: value for node in graph.graph for value in node.outputs}
    graph.graph.outputs.extend([inside["pixels.normalised"], inside["logits"]])
    _, images, again = run_graph(graph, NHWC)
    np.testing.assert_array_equal(images, normalised(PIXELS, MEAN, STD))
    np.testing.assert_array_equal(again, logits)


def test_input_and_output_say_what_they_are() -> None:
    graph = sample_graph(NETWORKS[0])
    Uint8Input(SCALE, SHIFT)(graph)
    (pixels,), (shares,) = graph.graph.inputs, graph.graph.outputs
    assert (pixels.name, pixels.dtype, str(pixels.shape)) == ("images", ir.DataType.UINT8, "[batch,32,32,3]")
    assert (shares.name, shares.dtype, str(shares.shape)) == (
        "probabilities",
        ir.DataType.FLOAT,
        "[batch,10]",
    )
    assert "Resize" not in {node.op_type for node in graph.graph}


def _renamed(graph: ir.Model) -> None:
    graph.graph.inputs[0].name = "data"


def _in_float16(graph: ir.Model) -> None:
    graph.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)


def _of_unknown_size(graph: ir.Model) -> None:
    graph.graph.inputs[0].shape = ir.Shape(["batch", 3, "height", 32])


def _flat(graph: ir.Model) -> None:
    graph.graph.inputs[0].shape = ir.Shape(["batch", 3072])


def _with_another_output(graph: ir.Model) -> None:
    graph.graph.outputs[0].name = "scores"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_renamed, r"\['data'\] in the place of \['images'\]"),
        (_in_float16, "images is FLOAT16"),
        (_of_unknown_size, "images has shape .*height"),
        (_flat, "not float32 of 4 dimensions"),
        (_with_another_output, r"\['scores'\] in the place of \['logits'\]"),
    ],
)
def test_graph_of_another_interface_is_refused(change, told: str) -> None:
    graph = sample_graph(NETWORKS[0])
    change(graph)
    with pytest.raises(PreconditionError, match=told):
        Uint8Input(SCALE, SHIFT)(graph)
