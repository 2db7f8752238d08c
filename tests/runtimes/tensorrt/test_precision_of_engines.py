"""An engine whose convolutions compute in another precision than the graph says is refused."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from built_engines import FP32, TYPES, build_with_rtx, convolutions_in, needs_rtx
from fault_injection import bypass_dequantize, graph_in, publish, set_card

from artifacts.names import MODEL_FP8_GPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import FP8, Scheme
from errors import CheckFailed
from graphs.onnx_file import card_from_file
from runtimes.engines import GPU_GRAPHS
from runtimes.tensorrt.engine_card import card_of_engine
from runtimes.tensorrt.engine_from_onnx import (
    _is_expected,
)

PARTLY_FLOAT = [
    *(Scheme("gpu", stream=stream, float_blocks=("stage2.0.add",)) for stream in ("int8", "fp16", "fp32")),
    replace(FP8, float_blocks=("stage2.0.add",)),
]


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "source"),
    [pair for pair in itertools.product(GPU_GRAPHS, GPU_GRAPHS) if pair[0] != pair[1]],
)
def test_graph_passed_off_as_another_precision_is_a_failed_check(
    preact_run: RunDirectory, precision: str, source: str
) -> None:
    """TensorRT would silently build an engine of the precision that the graph really has."""
    graph = graph_in(preact_run, GPU_GRAPHS[source])
    set_card(graph, precision=precision, flavour="gpu" if precision in ("int8", "fp8") else "any")
    publish(preact_run, GPU_GRAPHS[precision], graph)
    with pytest.raises(
        CheckFailed,
        match=f"would not run .* in {precision}.*'{TYPES[source]}': {8 if source == 'fp8' else 9}",
    ):
        build_with_rtx(preact_run, precision)
    assert not preact_run.recorded("engines/")
    assert not (preact_run.path / "engines").exists()


@needs_rtx
@pytest.mark.parametrize("conv", ["stem.conv", "stage2.0.residual.conv1"])
def test_one_convolution_that_is_not_quantized_is_a_failed_check(run: RunDirectory, conv: str) -> None:
    graph = graph_in(run, MODEL_INT8_GPU)
    bypass_dequantize(graph, conv)
    publish(run, MODEL_INT8_GPU, graph)
    with pytest.raises(CheckFailed, match=r"would not run .* in int8.*'float16': \d"):
        build_with_rtx(run, "int8")


@needs_rtx
def test_one_convolution_that_is_not_in_fp8_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL_FP8_GPU)
    bypass_dequantize(graph, "stage2.0.residual.conv1")
    publish(preact_run, MODEL_FP8_GPU, graph)
    with pytest.raises(CheckFailed, match=r"would not run .* in fp8.*'float16': 2"):
        build_with_rtx(preact_run, "fp8")


@needs_rtx
@pytest.mark.parametrize("stream", ["fp16", "fp32"])
def test_int8_engine_is_built_with_every_stream(run: RunDirectory, stream: str) -> None:
    assert qdq_from_ranges(run, Scheme("gpu", stream=stream))
    name, done = build_with_rtx(run, "int8")
    assert done
    assert card_of_engine(run.verified(name)).convolutions == {
        "int8": convolutions_in(run.verified(MODEL_INT8_GPU))
    }


@needs_rtx
@pytest.mark.parametrize("scheme", PARTLY_FLOAT, ids=lambda scheme: f"{scheme.precision}-{scheme.stream}")
def test_engine_with_blocks_in_float_counts_them(run: RunDirectory, scheme: Scheme) -> None:
    source = GPU_GRAPHS[scheme.precision]
    assert qdq_from_ranges(run, scheme)
    count = card_from_file(run.verified(source)).float_convolutions
    name, _ = build_with_rtx(run, scheme.precision)
    card = card_of_engine(run.verified(name))
    # A block in float has two convolutions and a projection; FP8 leaves the stem in float, too.
    assert count == (4 if scheme.precision == "fp8" else 3)
    assert card.convolutions == {
        TYPES[scheme.precision]: convolutions_in(run.path / source) - count,
        "float32" if scheme.stream == "fp32" else "float16": count,
    }
    assert card.graph.float_convolutions == count


@needs_rtx
@pytest.mark.parametrize(("precision", "claimed"), [("int8", 1), ("fp8", 0), ("fp8", 2), ("fp32", 1)])
def test_other_number_of_float_convolutions_than_the_card_tells_is_a_failed_check(
    preact_run: RunDirectory, precision: str, claimed: int
) -> None:
    graph = graph_in(preact_run, GPU_GRAPHS[precision])
    set_card(graph, float_convolutions=claimed)
    publish(preact_run, GPU_GRAPHS[precision], graph)
    with pytest.raises(CheckFailed, match=f"would not run .* in {precision}"):
        build_with_rtx(preact_run, precision)
    assert not preact_run.recorded("engines/")


@pytest.mark.parametrize(
    ("precision", "left", "counts", "expected"),
    [
        ("int8", 0, {"int8": 9}, True),
        ("int8", 3, {"int8": 6, "float16": 3}, True),
        ("int8", 3, {"int8": 6, "float32": 3}, True),
        ("int8", 3, {"int8": 5, "float16": 1, "float32": 2}, True),
        ("int8", 3, {"int8": 7, "float16": 2}, False),
        ("int8", 2, {"int8": 6, "float16": 3}, False),
        ("int8", 9, {"float16": 9}, False),
        ("int8", 1, {"int8": 8, "bfloat16": 1}, False),
        ("int8", 0, {"int8": 8, "float8": 1}, False),
        ("fp8", 1, {"float8": 8, "float16": 1}, True),
        ("fp8", 1, {"float8": 7, "float16": 1, "int8": 1}, False),
        ("fp32", 0, {"float32": 9}, True),
        ("fp32", 0, {"float32": 8, "float16": 1}, False),
        ("fp16", 0, {"float16": 8, "float32": 1}, False),
        ("fp32", 0, {}, False),
    ],
)
def test_convolutions_are_those_of_the_precision_and_as_many_in_float_as_the_card_tells(
    precision: str, left: int, counts: dict[str, int], expected: bool
) -> None:
    card = FP32.with_precision(precision, "gpu", float_convolutions=left)
    assert _is_expected(Counter(counts), card) == expected
