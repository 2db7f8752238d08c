"""`calibrate`: every option is recorded and decides."""

import json

import onnx
import pytest
from command_line import (
    DEPTH,
    Skipfold,
)

from artifacts.names import (
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_REPARAMETRIZED,
    RANGES,
)
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_in
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_graph
from data.dataset import Dataset


def test_other_options_redo_a_stage(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    before = json.loads((preact_run.path / RANGES).read_text())
    outcome = skipfold("calibrate", *DEPTH, "--method", "minmax")
    assert outcome.status == 0 and "up to date" not in outcome.out
    after = json.loads((preact_run.path / RANGES).read_text())
    assert (before["method"]["name"], after["method"]["name"]) == ("percentile", "minmax")


def test_calibrate_records_what_was_asked_for(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold(
        *("calibrate", *DEPTH, "--method", "percentile", "--percentile", 99.9, "--stream", "fp32"),
        *("--reparametrize", "equalize,centre", "--no-bias-correction", "--saturation", "proved"),
    )
    assert outcome.status == 0
    assert "percentile 99.9, centre+equalize: " in outcome.out
    run = RunDirectory(preact_run.path)
    assert plan_in(run) == Plan(
        method=Method("percentile", 99.9),
        passes=("centre", "equalize"),
        stream="fp32",
        saturation="proved",
        correct_bias=False,
    )
    for engine in ("ort", "openvino"):
        assert skipfold("verify", *DEPTH, "--engine", engine, "--precision", "int8").status == 0


@pytest.mark.parametrize(
    ("options", "passes", "words"),
    [((), ("absorb", "equalize"), "absorb+equalize"), (("--reparametrize", "none"), (), "as exported")],
)
def test_reparametrization_is_a_choice(
    skipfold: Skipfold,
    preact_run: RunDirectory,
    options: tuple[str, ...],
    passes: tuple[str, ...],
    words: str,
) -> None:
    outcome = skipfold("calibrate", *DEPTH, "--force", *options)
    assert (outcome.status, words in outcome.out) == (0, True)
    assert plan_in(RunDirectory(preact_run.path)) == Plan(passes=passes)
    operators = {node.op_type for node in onnx.load(preact_run.path / MODEL_REPARAMETRIZED).graph.node}
    assert ("BatchNormalization" in operators) == (not passes)


def test_bias_correction_is_on_and_can_be_left_out(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    before = (preact_run.path / MODEL_INT8_CPU).read_bytes()
    assert "up to date" in skipfold("calibrate", *DEPTH, "--bias-correction").out
    outcome = skipfold("calibrate", *DEPTH, "--no-bias-correction")
    assert outcome.status == 0 and "up to date" not in outcome.out
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() != before
    assert skipfold("calibrate", *DEPTH).status == 0
    assert (preact_run.path / MODEL_INT8_CPU).read_bytes() == before


def test_int8_files_are_written_for_both_kinds_of_target(preact_run: RunDirectory) -> None:
    assert {MODEL_INT8_CPU, MODEL_INT8_GPU} <= set(preact_run.recorded())


def test_calibration_is_repeated_as_it_was(
    skipfold: Skipfold, preact_run: RunDirectory, digits: Dataset
) -> None:
    skipfold("calibrate", *DEPTH, "--saturation", "proved")
    ranges_from_graph(RunDirectory(preact_run.path), digits, Method("minmax"))
    assert skipfold("verify", *DEPTH, "--engine", "ort", "--precision", "int8").status == 0
    record = RunDirectory(preact_run.path).record(MODEL_INT8_CPU)
    assert record.options["saturation"] == "proved"
