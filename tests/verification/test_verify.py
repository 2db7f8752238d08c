"""Which verdicts are given, written, kept and refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cpu_engines import ON_CPU
from fault_injection import graph_in, publish, set_card
from made_up_tables import subjects_in
from recorded_calls import opened_runtimes
from safetensors.torch import load_file, save_file
from seeded_faults import put_nan, swap_two_classes, with_few_test_images

from artifacts.names import (
    ACCURACY,
    CHECKPOINT,
    CHECKPOINT_CARD,
    MODEL,
    MODEL_INT8_CPU,
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
from training.checkpoints import checkpoint_from_initialisation
from verification.tolerances import TOLERANCES
from verification.verify import verdicts_from_artifacts


@pytest.fixture
def few(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    return with_few_test_images(digits, monkeypatch)


def _document(run: RunDirectory, name: str) -> dict[str, Any]:
    """Read a table; NaN and Infinity fail the test, because they are no JSON, although Python reads them."""
    return json.loads(run.verified(name).read_text(), parse_constant=pytest.fail)


def _retrain(run: RunDirectory) -> None:
    """Change the weights of a run whose artifacts were made of the former weights."""
    weights = load_file(run.verified(CHECKPOINT))
    weights["classifier.bias"] += 1
    card = run.verified(CHECKPOINT_CARD).read_bytes()
    with run.writing(Step("train", {}, (), (CHECKPOINT, CHECKPOINT_CARD))) as folder:
        save_file(weights, folder / CHECKPOINT)
        (folder / CHECKPOINT_CARD).write_bytes(card)


def test_every_engine_passes_and_the_figures_are_written(run: RunDirectory, digits: Dataset) -> None:
    rows, done = verdicts_from_artifacts(run, digits, subjects_in(run, *ON_CPU))
    assert done
    assert [(row["engine"], row["precision"]) for row in rows] == ON_CPU
    assert [row["failures"] for row in rows] == [[]] * len(ON_CPU)
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


def test_verified_artifact_is_up_to_date(preact_run: RunDirectory, few: Dataset) -> None:
    subjects = subjects_in(preact_run, ("ort", "fp32"))
    rows, done = verdicts_from_artifacts(preact_run, few, subjects)
    assert done
    assert verdicts_from_artifacts(preact_run, few, subjects) == (rows, False)
    assert verdicts_from_artifacts(preact_run, few, subjects, force=True) == (rows, True)


def test_engine_is_verified_again_without_cuda_graphs(
    preact_run: RunDirectory, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = subjects_in(preact_run, ("ort", "fp32"))
    verdicts_from_artifacts(preact_run, few, subjects)
    opened = opened_runtimes(monkeypatch)
    assert verdicts_from_artifacts(preact_run, few, subjects, cuda_graphs=False)[1]
    assert [(runtime.name, runtime.cuda_graphs) for runtime in opened] == [("torch", True), ("ort", False)]


def test_changed_artifact_is_verified_again(preact_run: RunDirectory, few: Dataset) -> None:
    subjects = subjects_in(preact_run, ("ort", "fp32"))
    verdicts_from_artifacts(preact_run, few, subjects)
    graph = graph_in(preact_run, MODEL)
    swap_two_classes(graph, preact_run)
    publish(preact_run, MODEL, graph)
    (row,), done = verdicts_from_artifacts(preact_run, few, subjects)
    assert done
    assert not row["passed"]


def test_verifying_one_engine_keeps_the_verdicts_of_others(preact_run: RunDirectory, few: Dataset) -> None:
    first, _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "fp32")))
    second, _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "int8")))
    assert [row["precision"] for row in second] == ["int8"]
    assert _document(preact_run, PARITY)["rows"] == first + second
    assert len(_document(preact_run, ACCURACY)["rows"]) == 2


def test_verdicts_on_other_images_are_not_kept(preact_run: RunDirectory, few: Dataset) -> None:
    verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "fp32")))
    other = replace(few, sha256="0" * 64)
    rows, _ = verdicts_from_artifacts(preact_run, other, subjects_in(preact_run, ("ort", "int8")))
    assert _document(preact_run, PARITY)["rows"] == rows


def test_failed_verdict_is_recorded(preact_run: RunDirectory, few: Dataset) -> None:
    graph = graph_in(preact_run, MODEL)
    swap_two_classes(graph, preact_run)
    publish(preact_run, MODEL, graph)
    rows, _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "fp32")))
    assert _document(preact_run, PARITY)["rows"] == rows
    assert any("signal to noise" in line for line in rows[0]["failures"])


def test_error_leaves_the_earlier_verdicts(preact_run: RunDirectory, few: Dataset) -> None:
    verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "int8")))
    before = _document(preact_run, PARITY)
    graph = graph_in(preact_run, MODEL)
    put_nan(graph, preact_run)
    publish(preact_run, MODEL, graph)
    with pytest.raises(CheckFailed, match="not finite"):
        verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "fp32")))
    assert _document(preact_run, PARITY) == before


def test_the_original_itself_has_no_noise_and_valid_json(preact_run: RunDirectory, few: Dataset) -> None:
    (row,), _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("torch", "fp32")))
    assert row["passed"]
    assert row["snr_db"] is None
    assert _document(preact_run, PARITY)["rows"] == [row]


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_artifact_of_another_checkpoint_is_refused(
    preact_run: RunDirectory, few: Dataset, engine: str
) -> None:
    _retrain(preact_run)
    with pytest.raises(UserError, match=f"{MODEL} is another network than {CHECKPOINT}"):
        verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, (engine, "fp32")))


@pytest.mark.parametrize(
    "claim", [{"classes": list("1023456789")}, {"depth": 20}, {"trained": False}, {"mean": [0.5, 0.5, 0.5]}]
)
def test_artifact_with_a_card_of_another_network_is_refused(
    preact_run: RunDirectory, few: Dataset, claim: dict[str, Any]
) -> None:
    """One of the claims permutes the names of the classes, so that right logits get wrong names."""
    graph = graph_in(preact_run, MODEL)
    set_card(graph, **claim)
    publish(preact_run, MODEL, graph)
    with pytest.raises(UserError, match="another network"):
        verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "fp32")))


@pytest.mark.parametrize("change", [{"name": "cifar10"}, {"classes": ("a", "b")}])
def test_another_data_set_is_refused(preact_run: RunDirectory, few: Dataset, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"is for digits with 10 classes, not") as refusal:
        verdicts_from_artifacts(preact_run, replace(few, **change), subjects_in(preact_run, ("ort", "fp32")))
    assert "--dataset" in refusal.value.fix
    assert PARITY not in preact_run


def test_nothing_to_verify_is_refused(preact_run: RunDirectory, few: Dataset) -> None:
    with pytest.raises(UserError, match="nothing to verify"):
        verdicts_from_artifacts(preact_run, few, [])


def test_artifact_changed_behind_the_manifest_is_refused(preact_run: RunDirectory, few: Dataset) -> None:
    with (preact_run.path / MODEL).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=f"{MODEL} is not the file"):
        verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "fp32")))


def test_untrained_network_is_judged_by_its_signal_to_noise(tmp_path: Path, few: Dataset) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, resnet_config("preact", 8), few, seed=0)
    graph_from_checkpoint(run)
    (row,), _ = verdicts_from_artifacts(run, few, subjects_in(run, ("ort", "fp32")))
    assert row["passed"]
    assert _document(run, PARITY)["trained"] is False


def test_int8_rows_say_which_convolutions_may_saturate(preact_run: RunDirectory, few: Dataset) -> None:
    subjects = subjects_in(preact_run, ("ort", "int8"), ("ort", "fp32"), ("reference", "int8"))
    rows, _ = verdicts_from_artifacts(preact_run, few, subjects)
    unsafe = rows[0]["saturation"]
    assert "stage1.0.residual.conv2" in unsafe
    # The inputs of these two convolutions have large codes throughout, so their weights are kept small.
    assert not {"stem.conv", "stage1.0.residual.conv1"} & set(unsafe)
    assert [row["saturation"] for row in rows[1:]] == [None, None]
    for flavour, engine in (("cpu", "ort"), ("openvino", "openvino")):
        qdq_from_ranges(preact_run, Scheme(flavour, saturation="proved"))
        (row,), _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, (engine, "int8")))
        assert (row["saturation"], row["passed"]) == ("free", True)


def test_verdicts_by_other_rules_are_not_kept(
    preact_run: RunDirectory, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort, openvino = subjects_in(preact_run, ("ort", "int8"), ("openvino", "int8"))
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
    (row,), _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, ("ort", "int8")))
    assert not row["passed"]
    assert "claims freedom from saturation" in row["failures"][-1]
