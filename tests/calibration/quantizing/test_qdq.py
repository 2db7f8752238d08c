"""These tests say which files the stage writes, when it writes them again, and how good they are."""

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from quantized_samples import (
    CPU,
    SCHEMES,
    dtype_of,
    named,
    nodes_of,
)

from artifacts.names import MODEL, MODEL_INT8_CPU, MODEL_INT8_GPU, MODEL_INT8_OPENVINO, RANGES
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import FILES, qdq_from_ranges, source_of
from calibration.quantizing.scheme import Scheme
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_file, ranges_from_graph
from calibration.rewriting.reparametrize import reparametrized_from_graph
from errors import UserError
from export.graph_from_checkpoint import graph_from_checkpoint
from graphs.onnx_file import card_from_file, constant, graph_from_file
from models.config import VARIANTS, resnet_config
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime
from training.checkpoints import checkpoint_from_initialisation
from verification.compare import compare, logits_of_split


def test_cpu_file_opens_as_int8_in_onnx_runtime(trained_runs):
    for path in trained_runs.values():
        with OrtRuntime(path / MODEL_INT8_CPU, "int8") as runtime:
            assert runtime.describe()["convolutions"].keys() == {"QLinearConv"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_openvino_runs_its_file_in_integers(trained_runs, variant):
    with OpenVinoRuntime(trained_runs[variant] / MODEL_INT8_OPENVINO, "int8") as runtime:
        kinds = runtime.describe()["convolutions"]
    assert set(kinds) <= {"i8", "u8"}
    with pytest.raises(UserError, match="is int8 of flavour openvino"):
        OrtRuntime(trained_runs[variant] / MODEL_INT8_OPENVINO, "int8").__enter__()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", FILES, ids="-".join)
def test_accuracy_is_within_two_points_of_float(trained_runs, digits, variant, kind):
    path = trained_runs[variant]
    with OrtRuntime(path / MODEL, "fp32") as runtime:
        original = logits_of_split(runtime, digits, digits.test, "")
    with ReferenceRuntime(path / FILES[kind], kind[0]) as runtime:
        logits = logits_of_split(runtime, digits, digits.test, "")
    figures = compare(original, logits, digits.test.labels)
    # A network that is right on fewer than 70 % has learnt too little for rounding to spoil.
    assert figures.accuracy + figures.drop > 70
    assert figures.drop <= 2
    assert figures.snr_db > 20


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_files_are_written_once_and_carry_their_flavour(run, scheme):
    path = run.path / FILES[scheme.precision, scheme.flavour]
    assert not qdq_from_ranges(run, scheme)
    before = path.read_bytes()
    assert qdq_from_ranges(run, scheme, force=True)
    assert path.read_bytes() == before
    card, original = card_from_file(path), card_from_file(run.path / MODEL)
    assert (card.precision, card.flavour) == (scheme.precision, scheme.flavour)
    # TensorRT has no FP8 kernel for the three channels of the stem.
    assert card.float_convolutions == (1 if scheme.precision == "fp8" else 0)
    assert card.is_same_network(original)
    assert run.record(path.name).options == json.loads(json.dumps(scheme.to_json()))


@pytest.mark.parametrize("scheme", [Scheme("gpu", stream="fp16"), Scheme("cpu", stream="fp32")], ids=named)
def test_other_stream_makes_another_file_of_its_flavour_alone(preact_run, scheme):
    before = {name: (preact_run.path / name).read_bytes() for name in FILES.values()}
    assert qdq_from_ranges(preact_run, scheme)
    changed = FILES[scheme.precision, scheme.flavour]
    for name, content in before.items():
        assert ((preact_run.path / name).read_bytes() != content) == (name == changed)
    assert preact_run.record(changed).options["stream"] == scheme.stream


def test_other_ranges_make_other_files(preact_run, digits):
    before = (preact_run.path / MODEL_INT8_CPU).read_bytes()
    ranges_from_graph(preact_run, digits, Method("minmax"))
    assert qdq_from_ranges(preact_run, CPU)
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() != before


def test_other_reparametrization_is_not_quantized_by_the_ranges_of_the_former(preact_run, digits):
    reparametrized_from_graph(preact_run, digits, ())
    with pytest.raises(UserError, match=r"made from another model\.reparametrized\.onnx") as refusal:
        qdq_from_ranges(preact_run, CPU)
    assert refusal.value.fix == "calibrate again"


def test_scales_are_those_of_the_ranges_file(preact_run, digits):
    # The method mse clips int8 and uint8 at different points, so that the flavours differ.
    ranges_from_graph(preact_run, digits, Method("mse"))
    for scheme in SCHEMES:
        qdq_from_ranges(preact_run, scheme)
        calibrated = ranges_from_file(preact_run.path / RANGES, source_of(scheme))
        model = graph_from_file(preact_run.path / FILES[scheme.precision, scheme.flavour])
        for node in nodes_of(model, "QuantizeLinear"):
            low, high, amax = calibrated[node.inputs[0].name.replace("images.narrow", "images")].range
            on_gpu = amax / (448 if scheme.precision == "fp8" else 127)
            of_int8 = dtype_of(node.inputs[2]) == ir.DataType.INT8 or not scheme.is_for_cpus
            width = on_gpu if of_int8 else (high - low) / 255
            assert float(constant(node.inputs[1])) == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_ranges_of_former_weights_are_refused(tmp_path, digits, scheme):
    run = RunDirectory(tmp_path)
    few = replace(digits, calibration=digits.calibration.subset(np.arange(10)))
    for seed in (0, 1):
        checkpoint_from_initialisation(run, resnet_config("preact", 8), digits, seed)
        graph_from_checkpoint(run)
        reparametrized_from_graph(run, few)
        if seed == 0:
            ranges_from_graph(run, few, Method())
    with pytest.raises(UserError, match=r"another model\.reparametrized\.(bn\.)?onnx"):
        qdq_from_ranges(run, scheme)
    assert FILES[scheme.precision, scheme.flavour] not in run


def test_saturation_stands_in_the_card_of_the_cpu_file_alone(preact_run):
    assert card_from_file(preact_run.verified(MODEL_INT8_CPU)).saturation == "stem"
    assert card_from_file(preact_run.verified(MODEL_INT8_GPU)).saturation == ""
    assert qdq_from_ranges(preact_run, Scheme("cpu", saturation="proved"))
    assert not qdq_from_ranges(preact_run, Scheme("cpu", saturation="proved"))
    assert not qdq_from_ranges(preact_run, Scheme("gpu", saturation="proved"))
    assert card_from_file(preact_run.verified(MODEL_INT8_CPU)).saturation == "proved"
