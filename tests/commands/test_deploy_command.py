"""`deploy`: everything this machine can do, and what it leaves out."""

from pathlib import Path

import pytest
from command_line import DEPTH, QUICK, Skipfold, assert_refused, needs_rtx, without_gpu, write_picture_folders

from artifacts.names import (
    REPORT,
)
from artifacts.run_directory import RunDirectory
from vocabulary import Precision


@needs_rtx
@without_gpu
def test_benchmark_of_trt_without_a_gpu_names_the_engine_it_built(
    skipfold: Skipfold, preact_run: RunDirectory
) -> None:
    outcome = skipfold("benchmark", "--engine", "trt")
    assert_refused(outcome, "no NVIDIA driver", "--engine ort", "--engine openvino")
    named = outcome.err.split("the engine ")[1].split(" is built")[0]
    assert Path(named).is_file()
    assert len(list((preact_run.path / "engines").glob("*.engine"))) == len(Precision)


@needs_rtx
@without_gpu
def test_deploy_does_what_this_machine_can_and_says_what_it_left_out(
    skipfold: Skipfold, run: RunDirectory
) -> None:
    first = skipfold("deploy", "--run-dir", run.path, "--target", "sm89", *QUICK)
    assert first.status == 0, first
    assert "not run" in first.out and "skipped    trt" in first.out
    engines = {path.name for path in (run.path / "engines").glob("*.engine")}
    assert engines == {f"{precision}.rtx-sm89.engine" for precision in Precision}
    page = (run.path / REPORT).read_text()
    assert "reference" in page and "<svg" in page
    again = skipfold("deploy", "--run-dir", run.path, "--target", "sm89", *QUICK, "--json")
    assert again.status == 0
    assert again.err.count("up to date") == 10  # train, export, calibrate, five engines, verify, benchmark
    lines = {(line["engine"], line["precision"]): line for line in again.document["lines"]}
    assert lines["ort", "int8"]["verdict"] == "pass"
    assert lines["trt", "int8"]["latency_ms"] is None
    assert lines["reference", "int8"]["latency_ms"] is None


def test_deploy_goes_on_where_no_engine_can_be_built(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimes.tensorrt.package.version_of", lambda package: None)
    outcome = skipfold("deploy", *DEPTH, *QUICK)
    assert outcome.status == 0
    assert "skipped    build: " in outcome.out and "pip install tensorrt" in outcome.out


def test_deploy_of_ones_own_pictures(skipfold: Skipfold, tmp_path: Path) -> None:
    write_picture_folders(tmp_path / "pictures", count=70)
    own = ("--dataset", "imagefolder", "--data-dir", tmp_path / "pictures", *DEPTH)
    outcome = skipfold("deploy", *own, "--recipe", "digits", "--epochs", 3, *QUICK, "--json")
    assert outcome.status == 0, outcome
    assert outcome.document["card"]["classes"] == ["dark", "light"]
    picture = tmp_path / "pictures" / "light" / "0.png"
    predicted = skipfold("predict", picture, *own, "--json").document["predictions"]
    assert [entry["class"] for entry in predicted[0]["classes"]] == ["light", "dark"]
