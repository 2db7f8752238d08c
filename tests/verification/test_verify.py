import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fault_injection import change_initializer, graph_in, publish, set_card
from safetensors.torch import load_file, save_file

import verification.compare
from artifacts.names import (
    ACCURACY,
    CHECKPOINT,
    CHECKPOINT_CARD,
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_INT8_RTX,
    PARITY,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import Scheme
from data.dataset import Dataset
from errors import CheckFailed, UserError
from export.graph_from_checkpoint import graph_from_checkpoint
from machine.description import this_machine
from models.checkpoint import model_in
from models.config import resnet_config
from runtimes.subjects import Subject, subject_in
from training.checkpoints import checkpoint_from_initialisation
from verification.tolerances import TOLERANCES
from verification.verify import verdicts_from_artifacts

CPU = [
    ("ort", "fp32"),
    ("ort", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("reference", "fp32"),
    ("reference", "fp16"),
    ("reference", "bf16"),
    ("reference", "int8"),
    ("reference", "fp8"),
    ("reference-rtx", "int8"),
    ("reference-rtx", "fp8"),
]

Fault = Callable[[onnx.ModelProto, RunDirectory], None]


@pytest.fixture
def few(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A sixth of the test split in one batch, enough for a fault to show."""
    chosen = np.arange(0, len(digits.test), 6)
    monkeypatch.setattr(verification.compare, "BATCH", len(chosen))
    return replace(digits, test=digits.test.subset(chosen))


def _subjects(run: RunDirectory, *named: tuple[str, str]) -> list[Subject]:
    return [subject_in(run, *name) for name in named]


def _document(run: RunDirectory, name: str) -> dict[str, Any]:
    """JSON has no NaN or Infinity, though Python reads and writes them."""
    return json.loads(run.verified(name).read_text(), parse_constant=pytest.fail)


def _retrain(run: RunDirectory) -> None:
    """Other weights, where an artifact has been made of those before."""
    weights = load_file(run.verified(CHECKPOINT))
    weights["classifier.bias"] += 1
    card = run.verified(CHECKPOINT_CARD).read_bytes()
    with run.writing(Step("train", {}, (), (CHECKPOINT, CHECKPOINT_CARD))) as folder:
        save_file(weights, folder / CHECKPOINT)
        (folder / CHECKPOINT_CARD).write_bytes(card)


def swap_two_classes(graph: onnx.ModelProto, run: RunDirectory) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        change_initializer(graph, name, lambda rows: rows[[1, 0, *range(2, len(rows))]])


def scale_one_weight(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "stage2.0.residual.conv1.weight", lambda weight: 1.05 * weight)


def shift_one_logit(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "classifier.bias", lambda bias: bias + 0.1 * (np.arange(len(bias)) == 4))


def lose_one_channel(graph: onnx.ModelProto, run: RunDirectory) -> None:
    def without_third(weight: np.ndarray) -> np.ndarray:
        weight[3] = 0
        return weight

    change_initializer(graph, "stage3.0.residual.conv2.weight", without_third)


def put_nan(graph: onnx.ModelProto, run: RunDirectory) -> None:
    def with_nan(weight: np.ndarray) -> np.ndarray:
        weight[0, 0, 0, 0] = np.nan
        return weight

    change_initializer(graph, "stage2.0.residual.conv2.weight", with_nan)


def fold_with_epsilon_of_other_frameworks(graph: onnx.ModelProto, run: RunDirectory) -> None:
    """1e-3 in place of 1e-5: W' = W r and c' = (c - b) r + b with r the ratio of the deviations."""
    weights = load_file(run.verified(CHECKPOINT))
    # The BN behind the first convolution of a block is its second one where it begins with one.
    number = 1 if "stage1.0.residual.bn1.bias" in weights else 2
    for stage in ("stage1", "stage2", "stage3"):
        bn, conv = f"{stage}.0.residual.bn{number}", f"{stage}.0.residual.conv1"
        variance, beta = (weights[f"{bn}.{name}"].numpy() for name in ("running_var", "bias"))
        ratio = np.sqrt((variance + 1e-5) / (variance + 1e-3))
        change_initializer(graph, f"{conv}.weight", lambda w, r=ratio: w * r[:, None, None, None])
        change_initializer(graph, f"{conv}.bias", lambda c, r=ratio, b=beta: (c - b) * r + b)


def shrink_range_of_input(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "images.scale", lambda scale: scale / 4)


def shrink_range_of_branch(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "stage2.0.residual.conv2.scale", lambda scale: scale / 4)


def shrink_range_of_activation(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "stage2.0.residual.relu2.scale", lambda scale: scale / 8)


def quantize_by_another_scale(graph: onnx.ModelProto, run: RunDirectory) -> None:
    """In an epilogue, where the scale of quantizing stands apart from that of dequantizing."""
    change_initializer(graph, "stage2.0.preact.relu1.quantize.scale", lambda scale: scale / 2)


FLOAT_FAULTS = [
    swap_two_classes,
    scale_one_weight,
    shift_one_logit,
    lose_one_channel,
    put_nan,
    fold_with_epsilon_of_other_frameworks,
]
FAULTS = [
    (swap_two_classes, MODEL, "openvino", "fp32"),
    (fold_with_epsilon_of_other_frameworks, MODEL, "openvino", "fp32"),
    (put_nan, MODEL, "openvino", "fp32"),
    (swap_two_classes, MODEL_FP16, "reference", "fp16"),
    (scale_one_weight, MODEL_FP16, "reference", "fp16"),
    (put_nan, MODEL_FP16, "reference", "fp16"),
    (swap_two_classes, MODEL_INT8_CPU, "ort", "int8"),
    (swap_two_classes, MODEL_INT8_OPENVINO, "openvino", "int8"),
    (swap_two_classes, MODEL_INT8_GPU, "reference", "int8"),
    (shrink_range_of_input, MODEL_INT8_CPU, "ort", "int8"),
    (shrink_range_of_input, MODEL_INT8_OPENVINO, "openvino", "int8"),
    (shrink_range_of_input, MODEL_INT8_GPU, "reference", "int8"),
    (shrink_range_of_branch, MODEL_INT8_CPU, "ort", "int8"),
    (swap_two_classes, MODEL_BF16, "reference", "bf16"),
    (scale_one_weight, MODEL_BF16, "reference", "bf16"),
    (swap_two_classes, MODEL_FP8_GPU, "reference", "fp8"),
    (shrink_range_of_activation, MODEL_FP8_GPU, "reference", "fp8"),
    (swap_two_classes, MODEL_INT8_RTX, "reference-rtx", "int8"),
    (quantize_by_another_scale, MODEL_INT8_RTX, "reference-rtx", "int8"),
    (swap_two_classes, MODEL_FP8_RTX, "reference-rtx", "fp8"),
    (shrink_range_of_branch, MODEL_INT8_OPENVINO, "openvino", "int8"),
]


def _assert_caught(
    run: RunDirectory, dataset: Dataset, fault: Fault, name: str, engine: str, precision: str
) -> None:
    graph = graph_in(run, name)
    fault(graph, run)
    publish(run, name, graph)
    try:
        (row,), _ = verdicts_from_artifacts(run, dataset, _subjects(run, (engine, precision)))
    except CheckFailed:
        return
    assert not row["passed"]
    assert row["failures"]


@pytest.mark.parametrize("fault", FLOAT_FAULTS)
def test_seeded_fault_of_the_exported_graph_is_caught(run: RunDirectory, few: Dataset, fault: Fault) -> None:
    _assert_caught(run, few, fault, MODEL, "ort", "fp32")


@pytest.mark.parametrize(("fault", "name", "engine", "precision"), FAULTS)
def test_seeded_fault_is_caught_in_every_engine_and_precision(
    preact_run: RunDirectory, few: Dataset, fault: Fault, name: str, engine: str, precision: str
) -> None:
    _assert_caught(preact_run, few, fault, name, engine, precision)


def test_graphs_published_without_a_fault_pass(preact_run: RunDirectory, few: Dataset) -> None:
    """So that it is not the publishing that is caught above."""
    for name in (MODEL, MODEL_FP16, MODEL_INT8_CPU, MODEL_INT8_GPU):
        publish(preact_run, name, graph_in(preact_run, name))
    rows, _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, *CPU))
    assert all(row["passed"] for row in rows)


def test_every_engine_passes_and_the_figures_are_written(run: RunDirectory, digits: Dataset) -> None:
    rows, done = verdicts_from_artifacts(run, digits, _subjects(run, *CPU))
    assert done
    assert [(row["engine"], row["precision"]) for row in rows] == CPU
    assert [row["failures"] for row in rows] == [[]] * len(CPU)
    assert all(row["passed"] for row in rows)
    for row in rows:
        assert row["images"] == len(digits.test)
        assert row["snr_db"] >= TOLERANCES[row["precision"]].snr_db
        assert row["max_error"] > 0
        assert row["artifact_sha256"] == run.record(row["artifact"]).sha256
        assert row["checkpoint_sha256"] == run.record(CHECKPOINT).sha256

    parity, accuracy = _document(run, PARITY), _document(run, ACCURACY)
    assert parity["rows"] == rows
    model, _ = model_in(run)
    with torch.inference_mode():
        guesses = model(torch.from_numpy(digits.normalised(digits.test.images))).argmax(1).numpy()
    expected = 100 * float((guesses == digits.test.labels).mean())
    for document in (parity, accuracy):
        assert document["original_accuracy"] == pytest.approx(expected)
        assert document["images"] == len(digits.test)
        assert (document["dataset"], document["dataset_sha256"]) == ("digits", digits.sha256)
        assert document["trained"] is True
        assert document["machine"] == this_machine().to_json()
    for row in accuracy["rows"]:
        assert row["accuracy"] + row["drop"] == pytest.approx(expected)
        assert row["accuracy"] > 50


def test_what_was_verified_is_up_to_date(preact_run: RunDirectory, few: Dataset) -> None:
    subjects = _subjects(preact_run, ("ort", "fp32"))
    rows, done = verdicts_from_artifacts(preact_run, few, subjects)
    assert done
    assert verdicts_from_artifacts(preact_run, few, subjects) == (rows, False)
    assert verdicts_from_artifacts(preact_run, few, subjects, force=True) == (rows, True)


def test_changed_artifact_is_verified_again(preact_run: RunDirectory, few: Dataset) -> None:
    subjects = _subjects(preact_run, ("ort", "fp32"))
    verdicts_from_artifacts(preact_run, few, subjects)
    graph = graph_in(preact_run, MODEL)
    swap_two_classes(graph, preact_run)
    publish(preact_run, MODEL, graph)
    (row,), done = verdicts_from_artifacts(preact_run, few, subjects)
    assert done
    assert not row["passed"]


def test_verifying_one_engine_keeps_the_verdicts_of_others(preact_run: RunDirectory, few: Dataset) -> None:
    first, _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "fp32")))
    second, _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "int8")))
    assert [row["precision"] for row in second] == ["int8"]
    assert _document(preact_run, PARITY)["rows"] == first + second
    assert len(_document(preact_run, ACCURACY)["rows"]) == 2


def test_verdicts_on_other_images_are_not_kept(preact_run: RunDirectory, few: Dataset) -> None:
    verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "fp32")))
    other = replace(few, sha256="0" * 64)
    rows, _ = verdicts_from_artifacts(preact_run, other, _subjects(preact_run, ("ort", "int8")))
    assert _document(preact_run, PARITY)["rows"] == rows


def test_failed_verdict_is_recorded(preact_run: RunDirectory, few: Dataset) -> None:
    graph = graph_in(preact_run, MODEL)
    swap_two_classes(graph, preact_run)
    publish(preact_run, MODEL, graph)
    rows, _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "fp32")))
    assert _document(preact_run, PARITY)["rows"] == rows
    assert any("signal to noise" in line for line in rows[0]["failures"])


def test_error_leaves_the_earlier_verdicts(preact_run: RunDirectory, few: Dataset) -> None:
    verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "int8")))
    before = _document(preact_run, PARITY)
    graph = graph_in(preact_run, MODEL)
    put_nan(graph, preact_run)
    publish(preact_run, MODEL, graph)
    with pytest.raises(CheckFailed, match="not finite"):
        verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "fp32")))
    assert _document(preact_run, PARITY) == before


def test_the_original_itself_has_no_noise_and_valid_json(preact_run: RunDirectory, few: Dataset) -> None:
    (row,), _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("torch", "fp32")))
    assert row["passed"]
    assert row["snr_db"] is None
    assert _document(preact_run, PARITY)["rows"] == [row]


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_artifact_of_another_checkpoint_is_refused(
    preact_run: RunDirectory, few: Dataset, engine: str
) -> None:
    _retrain(preact_run)
    with pytest.raises(UserError, match=f"{MODEL} is another network than {CHECKPOINT}"):
        verdicts_from_artifacts(preact_run, few, _subjects(preact_run, (engine, "fp32")))


@pytest.mark.parametrize(
    "claim", [{"classes": list("1023456789")}, {"depth": 20}, {"trained": False}, {"mean": [0.5, 0.5, 0.5]}]
)
def test_artifact_that_says_something_else_of_itself_is_refused(
    preact_run: RunDirectory, few: Dataset, claim: dict[str, Any]
) -> None:
    """Permuted class names among it: right logits under wrong names."""
    graph = graph_in(preact_run, MODEL)
    set_card(graph, **claim)
    publish(preact_run, MODEL, graph)
    with pytest.raises(UserError, match="another network"):
        verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "fp32")))


@pytest.mark.parametrize("change", [{"name": "cifar10"}, {"classes": ("a", "b")}])
def test_another_data_set_is_refused(preact_run: RunDirectory, few: Dataset, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"is for digits with 10 classes, not") as refusal:
        verdicts_from_artifacts(preact_run, replace(few, **change), _subjects(preact_run, ("ort", "fp32")))
    assert "--dataset" in refusal.value.fix
    assert PARITY not in preact_run


def test_nothing_to_verify_is_refused(preact_run: RunDirectory, few: Dataset) -> None:
    with pytest.raises(UserError, match="nothing to verify"):
        verdicts_from_artifacts(preact_run, few, [])


def test_artifact_changed_behind_the_manifest_is_refused(preact_run: RunDirectory, few: Dataset) -> None:
    with (preact_run.path / MODEL).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=f"{MODEL} is not the file"):
        verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "fp32")))


def test_untrained_network_is_judged_by_its_signal_to_noise(tmp_path: Path, few: Dataset) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, resnet_config("preact", 8), few, seed=0)
    graph_from_checkpoint(run)
    (row,), _ = verdicts_from_artifacts(run, few, _subjects(run, ("ort", "fp32")))
    assert row["passed"]
    assert _document(run, PARITY)["trained"] is False


def test_int8_rows_say_which_convolutions_may_saturate(preact_run: RunDirectory, few: Dataset) -> None:
    subjects = _subjects(preact_run, ("ort", "int8"), ("ort", "fp32"), ("reference", "int8"))
    rows, _ = verdicts_from_artifacts(preact_run, few, subjects)
    unsafe = rows[0]["saturation"]
    assert "stage1.0.residual.conv2" in unsafe
    # Their input's codes are large throughout.
    assert not {"stem.conv", "stage1.0.residual.conv1"} & set(unsafe)
    assert [row["saturation"] for row in rows[1:]] == [None, None]
    for flavour, engine in (("cpu", "ort"), ("openvino", "openvino")):
        qdq_from_ranges(preact_run, Scheme(flavour, saturation="proved"))
        (row,), _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, (engine, "int8")))
        assert (row["saturation"], row["passed"]) == ("free", True)


def test_verdicts_by_other_rules_are_not_kept(
    preact_run: RunDirectory, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort, openvino = _subjects(preact_run, ("ort", "int8"), ("openvino", "int8"))
    with monkeypatch.context() as patch:
        patch.setattr("verification.verify.RULES", 0)
        verdicts_from_artifacts(preact_run, few, [ort, openvino])
    assert verdicts_from_artifacts(preact_run, few, [ort])[1]
    assert [row["engine"] for row in _document(preact_run, PARITY)["rows"]] == ["ort"]
    assert not verdicts_from_artifacts(preact_run, few, [ort])[1]


def test_proof_that_a_card_only_claims_is_a_failure(preact_run: RunDirectory, few: Dataset) -> None:
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    set_card(graph, saturation="proved")
    publish(preact_run, MODEL_INT8_CPU, graph)
    (row,), _ = verdicts_from_artifacts(preact_run, few, _subjects(preact_run, ("ort", "int8")))
    assert not row["passed"]
    assert "said to be free of saturation" in row["failures"][-1]
