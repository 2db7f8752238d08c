"""These tests follow what a scheme leaves in float, blocks or the CPU's skip path, to the runtimes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from quantized_samples import (
    IMAGES,
    float_graph,
    nodes_of,
    optimized_operators,
    quantized,
    quantized_and_count,
    snr_db,
)
from sample_networks import TWO_BLOCKS, run_graph, sample_card

from artifacts.names import MODEL
from calibration.quantizing.placement import float_nodes
from calibration.quantizing.qdq import FILES, qdq_from_ranges
from calibration.quantizing.scheme import FP8, Scheme
from errors import UserError
from graphs.onnx_file import card_from_file, write_graph
from graphs.skip_path import junctions
from models.config import VARIANTS, resnet_config
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime
from verification.compare import compare, logits_of_split

CPU = [Scheme("cpu"), Scheme("cpu", stream="fp32")]
GPU = [
    *(Scheme("gpu", stream=stream) for stream in ("int8", "fp16", "fp32")),
    FP8,
]
# The first of these blocks begins a stage, and the second has an identity skip.
BLOCKS = ("stage2.0.add", "stage2.1.add")

configs = pytest.mark.parametrize("config", TWO_BLOCKS, ids=lambda c: f"{c.variant}-{c.depth}")
absorbed_or_not = pytest.mark.parametrize("absorbed", [False, True], ids=["exported", "absorbed"])


def named(scheme):
    return f"{scheme.flavour}-{scheme.precision}-{scheme.stream}"


def is_quantized(conv):
    """Tell whether a convolution's input and weight come from codes."""
    producers = {value.producer() and value.producer().op_type for value in conv.inputs[:2]}
    return producers == {"DequantizeLinear"}


@absorbed_or_not
@configs
@pytest.mark.parametrize("scheme", [*CPU, *GPU], ids=named)
def test_all_convolutions_of_the_blocks_are_float_and_no_others(config, scheme, absorbed):
    model, count = quantized_and_count(config, replace(scheme, float_blocks=BLOCKS), absorbed)
    expected = float_nodes(float_graph(config, absorbed), BLOCKS)
    if scheme.precision == "fp8":
        expected |= {"stem.conv"}
    left = {conv.name for conv in nodes_of(model, "Conv") if not is_quantized(conv)}
    assert left == expected & {conv.name for conv in nodes_of(model, "Conv")}
    assert count == len(left) >= 5


@absorbed_or_not
@configs
@pytest.mark.parametrize("scheme", CPU, ids=named)
def test_cpu_runtimes_compute_just_those_blocks_in_float(tmp_path, config, scheme, absorbed):
    model, count = quantized_and_count(config, replace(scheme, float_blocks=BLOCKS), absorbed)
    convolutions = len(nodes_of(model, "Conv"))
    card = sample_card(config).with_precision("int8", "cpu", "stem", count)
    write_graph(model, card, tmp_path / "cpu.onnx")
    with OrtRuntime(tmp_path / "cpu.onnx", "int8") as runtime:
        assert runtime.describe()["convolutions"] == {"QLinearConv": convolutions - count, "Conv": count}
        logits = runtime.infer(IMAGES)
    with OpenVinoRuntime(tmp_path / "cpu.onnx", "int8") as runtime:
        kinds = Counter(runtime.describe()["convolutions"])
        others = runtime.infer(IMAGES)
    assert (kinds["f32"], kinds["i8"] + kinds["u8"]) == (count, convolutions - count)
    (expected,) = run_graph(float_graph(config, absorbed), IMAGES)
    # On CPUs without VNNI the integer kernels of the other convolutions may saturate.
    assert min(snr_db(expected, logits), snr_db(expected, others)) > 10


@absorbed_or_not
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scheme", [*CPU, *GPU], ids=named)
def test_blocks_in_float_bring_the_logits_nearer(variant, scheme, absorbed):
    config = resnet_config(variant, 8)
    original = float_graph(config, absorbed)
    (expected,) = run_graph(original, IMAGES)
    everything = tuple(str(junction.add.name) for junction in junctions(original))
    noise = []
    for blocks in ((), everything):
        model = quantized(config, replace(scheme, float_blocks=blocks), absorbed)
        noise.append(snr_db(expected, run_graph(model, IMAGES, optimized=False)[0]))
    assert 20 < noise[0] < noise[1] - 1


@pytest.mark.parametrize("scheme", [*CPU, *GPU], ids=named)
def test_block_that_is_not_there_is_refused(scheme):
    with pytest.raises(UserError, match=r"there is no block that ends in stage4\.0\.add") as refusal:
        quantized(resnet_config("preact", 8), replace(scheme, float_blocks=("stage4.0.add",)))
    assert refusal.value.fix.startswith("use some of stage1.0.add")


@pytest.mark.parametrize("scheme", [CPU[0], GPU[0], GPU[-1]], ids=named)
def test_file_tells_of_its_float_convolutions_and_is_as_accurate(preact_run, digits, scheme):
    path = preact_run.path / FILES[scheme.precision, scheme.flavour]
    before = card_from_file(path)
    partly = replace(scheme, float_blocks=("stage2.0.add",))
    assert qdq_from_ranges(preact_run, partly)
    assert not qdq_from_ranges(preact_run, partly)
    assert preact_run.record(path.name).options["float_blocks"] == ["stage2.0.add"]
    card = card_from_file(path)
    # The block has two convolutions and a projection; the BN before them was absorbed.
    assert card == replace(before, float_convolutions=before.float_convolutions + 3)
    some = digits.test.subset(np.arange(0, len(digits.test), 3))
    with OrtRuntime(preact_run.path / MODEL, "fp32") as runtime:
        original = logits_of_split(runtime, digits, some, "")
    with ReferenceRuntime(path, scheme.precision) as runtime:
        figures = compare(original, logits_of_split(runtime, digits, some, ""), some.labels)
    assert figures.drop <= 2
    assert figures.snr_db > 20
    assert qdq_from_ranges(preact_run, scheme)
    assert card_from_file(path) == before


def test_refused_block_leaves_the_file_as_it_was(preact_run):
    before = (preact_run.path / FILES["int8", "cpu"]).read_bytes()
    with pytest.raises(UserError, match="no block that ends in head"):
        qdq_from_ranges(preact_run, Scheme("cpu", float_blocks=("head",)))
    assert preact_run.verified(FILES["int8", "cpu"]).read_bytes() == before


# The tests from here on are of the CPU's skip path in float32.


@absorbed_or_not
@configs
def test_cpu_with_an_fp32_stream_adds_in_float_and_convolves_in_integers(tmp_path, config, absorbed):
    model, count = quantized_and_count(config, Scheme("cpu", stream="fp32"), absorbed)
    convolutions = len(nodes_of(float_graph(config, absorbed), "Conv"))
    assert (count, len(nodes_of(model, "Conv"))) == (0, convolutions)
    # An Add reads every sum of a stage with identity skips, except the last.
    operators = Counter(optimized_operators(model, tmp_path))
    assert operators["Add"] == 3 * config.blocks_per_stage
    assert operators["QLinearAdd"] == operators["Conv"] == 0
    # What the stem writes has codes, which the branch of a first block without a projection cuts.
    cut = absorbed and config.variant == "preact" and config.block == "basic"
    assert operators["Clip"] == cut
    assert operators["QLinearConv"] == convolutions
    card = sample_card(config).with_precision("int8", "cpu", "stem")
    write_graph(model, card, tmp_path / "cpu.onnx")
    with OrtRuntime(tmp_path / "cpu.onnx", "int8") as runtime:
        assert runtime.describe()["convolutions"] == {"QLinearConv": convolutions}
    with OpenVinoRuntime(tmp_path / "cpu.onnx", "int8") as runtime:
        kinds = runtime.describe()["convolutions"]
    assert set(kinds) <= {"i8", "u8"}
    assert sum(kinds.values()) == convolutions


def test_cpu_with_an_fp32_stream_has_no_rewritten_operators():
    for config in TWO_BLOCKS:
        original, model = float_graph(config), quantized(config, Scheme("cpu", stream="fp32"))
        for op_type in ("BatchNormalization", "Relu", "Clip"):
            assert len(nodes_of(model, op_type)) == len(nodes_of(original, op_type))
