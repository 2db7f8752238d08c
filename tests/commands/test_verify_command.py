"""`verify` and `benchmark`: tables, verdicts and files that are not what they were."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import (
    DEPTH,
    Skipfold,
    assert_refused,
)

from artifacts.names import (
    ACCURACY,
    BENCHMARK,
    CHECKPOINT,
    MODEL,
    PARITY,
)
from artifacts.run_directory import RunDirectory
from verification import tolerances


def test_commands_take_the_newest_run_where_none_is_chosen(
    skipfold: Skipfold, preact_run: RunDirectory
) -> None:
    outcome = skipfold("verify", "--engine", "ort", "--precision", "fp32")
    assert outcome.status == 0
    assert f"{Path('runs') / preact_run.path.name}, the newest" in outcome.out


def test_verify_and_benchmark_leave_tables(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    run = preact_run
    chosen = ("--run-dir", run.path, "--engine", "ort", "--engine", "openvino", "--threads", 1)
    verified = skipfold("verify", *chosen, "--json")
    assert verified.status == 0
    assert [(row["engine"], row["precision"]) for row in verified.document["rows"]] == [
        ("ort", "fp32"), ("ort", "int8"), ("openvino", "fp32"), ("openvino", "int8"),
    ]  # fmt: skip
    timed = skipfold("benchmark", *chosen, "--seconds", 0.02, "--json")
    assert timed.status == 0
    rows = timed.document["rows"]
    assert {row["engine"] for row in rows} == {"torch", "ort", "openvino"}
    assert {row["batch"] for row in rows} == {1, 8, 32}
    assert all(row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in rows)
    assert {PARITY, ACCURACY, BENCHMARK} <= set(RunDirectory(run.path).recorded())


def test_verify_exits_1_where_an_artifact_is_out_of_tolerance(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = tolerances.Tolerance(500, 500, 100, 0, "no float32 arithmetic is that exact")
    monkeypatch.setitem(tolerances.TOLERANCES, "fp32", impossible)
    outcome = skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "fp32")
    assert outcome.status == 1
    assert "FAIL: signal to noise" in outcome.out


def test_an_onnx_file_that_was_replaced(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    (preact_run.path / MODEL).write_bytes(b"this is no ONNX file")
    outcome = skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "fp32")
    assert_refused(outcome, f"{MODEL} is not the file that `export` wrote", "export --force")


def test_an_onnx_file_of_another_network(
    skipfold: Skipfold, preact_run: RunDirectory, trained_runs: dict[str, Path]
) -> None:
    manifest = json.loads((preact_run.path / "manifest.json").read_text())
    other = json.loads((trained_runs["original"] / "manifest.json").read_text())
    shutil.copy(trained_runs["original"] / MODEL, preact_run.path / MODEL)
    made_from = manifest["files"][MODEL]["inputs"]
    manifest["files"][MODEL] = other["files"][MODEL] | {"inputs": made_from}
    (preact_run.path / "manifest.json").write_text(json.dumps(manifest))
    outcome = skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "fp32")
    assert_refused(outcome, f"{MODEL} is another network than {CHECKPOINT}")


def test_a_run_of_another_data_set(skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path) -> None:
    outcome = skipfold("verify", "--run-dir", preact_run.path, "--dataset", "imagefolder")
    assert_refused(outcome, "digits", "imagefolder")
