import json
from dataclasses import replace

import numpy as np
import pytest
from sample_networks import node_named, run_graph, sample_graph, sample_images

from artifacts.names import BLOCK_ERROR, MODEL_INT8_CPU, MODEL_INT8_GPU, MODEL_REPARAMETRIZED, RANGES
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, quantized_from_graph
from calibration.quantizing.scheme import Scheme
from calibration.ranges.calibration_set import held_out_images
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import calibrated, observe, ranges_from_file
from calibration.searching import block_error as block_error_module
from calibration.searching.block_error import block_error, block_errors_from_ranges, quantized_twin
from data.dataset import Dataset
from errors import UserError
from graphs import evaluation as activations_module
from graphs.onnx_file import graph_from_file
from graphs.signal_to_noise import Noise
from models.config import resnet_config
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime

SCHEMES = [Scheme("cpu"), Scheme("cpu", stream="fp32"), Scheme("gpu"), Scheme("gpu", stream="fp16")]
ADDS = ["stage1.0.add", "stage2.0.add", "stage3.0.add"]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.flavour}-{s.stream}")
@pytest.mark.parametrize("variant", ["preact", "original"])
def test_each_block_as_by_hand_whatever_the_batches(
    variant: str, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sample_graph(resnet_config(variant, 8))
    images = sample_images(7)
    ranges = calibrated(observe(model, images), Method("minmax"))
    names = [*ADDS, "logits"]
    twin = quantized_twin(model, ranges, scheme)
    for graph in (model, twin):
        graph.graph.outputs.extend(node_named(graph, name).outputs[0] for name in ADDS)
    exact = run_graph(model, images, outputs=names)
    rounded = run_graph(twin, images, optimized=scheme.flavour == "cpu", outputs=names)
    del model.graph.outputs[1:]
    expected = [
        10 * np.log10((y.astype(np.float64) ** 2).sum() / ((y.astype(np.float64) - z) ** 2).sum())
        for y, z in zip(exact, rounded, strict=True)
    ]
    monkeypatch.setattr(activations_module, "_LARGEST_BATCH", 3)
    found = block_error(model, ranges, scheme, images)
    assert list(found.blocks) == ADDS
    assert [*found.blocks.values(), found.logits] == pytest.approx(expected, abs=0.01)
    assert all(10 < db < 60 for db in expected)


@pytest.mark.parametrize("flavour", ["cpu", "gpu"])
def test_logits_are_those_of_the_runtime(run: RunDirectory, digits: Dataset, flavour: str) -> None:
    model = graph_from_file(run.path / MODEL_REPARAMETRIZED)
    images = digits.normalised(held_out_images(digits)[:50])
    runtime = (
        OrtRuntime(run.path / MODEL_INT8_CPU, "int8")
        if flavour == "cpu"
        else ReferenceRuntime(run.path / MODEL_INT8_GPU, "int8")
    )
    with runtime as engine:
        logits = engine.infer(images)
    (exact,) = run_graph(model, images)
    found = block_error(
        model, ranges_from_file(run.path / RANGES, MODEL_REPARAMETRIZED), Scheme(flavour), images
    )
    # With every Add among its outputs, ONNX Runtime fuses a little less.
    assert found.logits == pytest.approx(Noise().update(exact, logits).snr_db, abs=0.5)


def test_block_left_in_float_gains() -> None:
    model = sample_graph(resnet_config("preact", 8))
    images = sample_images(8)
    ranges = calibrated(observe(model, images), Method("minmax"))
    for scheme in SCHEMES:
        before = block_error(model, ranges, scheme, images)
        kept = Scheme(scheme.flavour, stream=scheme.stream, float_blocks=(ADDS[0],))
        after = block_error(model, ranges, kept, images)
        assert after.blocks[ADDS[0]] > before.blocks[ADDS[0]] + 1


def test_file_has_every_flavour_and_stream_and_is_up_to_date_until_ranges_change(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert block_errors_from_ranges(preact_run, digits, Plan())
    document = json.loads(preact_run.verified(BLOCK_ERROR).read_text())
    assert [(s["flavour"], s["stream"]) for s in document["series"]] == [
        ("cpu", "int8"),
        ("cpu", "fp32"),
        ("openvino", "int8"),
        ("gpu", "int8"),
        ("gpu", "fp16"),
        ("rtx", "fp16"),
    ]
    for series in document["series"]:
        assert list(series["blocks"]) == ADDS
        assert all(db > 10 for db in [*series["blocks"].values(), series["logits_db"]])
    by_stream = {(s["flavour"], s["stream"]): s["blocks"][ADDS[-1]] for s in document["series"]}
    assert by_stream["gpu", "fp16"] > by_stream["gpu", "int8"]
    with monkeypatch.context() as patch:
        patch.setattr(block_error_module, "held_out_images", None)
        assert not block_errors_from_ranges(preact_run, digits, Plan())
    assert block_errors_from_ranges(preact_run, replace(digits, sha256="of other images"), Plan())
    assert block_errors_from_ranges(preact_run, digits, Plan(correct_bias=False))
    quantized_from_graph(preact_run, digits, Plan(method=Method("minmax")))
    assert not preact_run.is_fresh(BLOCK_ERROR)
    assert block_errors_from_ranges(preact_run, digits, Plan(method=Method("minmax")))


def test_without_a_held_out_image_it_is_refused(preact_run: RunDirectory, digits: Dataset) -> None:
    nothing_left = replace(digits, train=digits.calibration)
    with pytest.raises(UserError, match="every training image is in the calibration split or the test split"):
        block_errors_from_ranges(preact_run, nothing_left, Plan())
    assert BLOCK_ERROR not in preact_run
