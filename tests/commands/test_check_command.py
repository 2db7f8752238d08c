"""`check FILE`, and `verify --file` as it used to be called."""

import pytest
from command_line import DEPTH, Skipfold, assert_refused

from artifacts.names import (
    CHECKPOINT,
    MODEL,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
)
from artifacts.run_directory import RunDirectory


def test_check_of_a_file_proves_or_names_what_saturates(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold("check", preact_run.path / MODEL_INT8_CPU, "--json")
    assert outcome.status == 1
    verdicts = {entry["node"]: entry["verdict"] for entry in outcome.document["operators"]}
    assert (verdicts["stem.conv"], verdicts["stage1.0.residual.conv2"]) == ("free", "can saturate")
    assert skipfold("calibrate", *DEPTH, "--saturation", "proved").status == 0
    outcome = skipfold("verify", "--file", preact_run.path / MODEL_INT8_CPU)
    assert outcome.status == 0
    assert "saturation-free" in outcome.out


def test_check_of_a_file_without_integer_convolutions(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    for name, problem in ((MODEL, "holds no integer convolution"), (CHECKPOINT, "is not a valid ONNX file")):
        outcome = skipfold("check", preact_run.path / name)
        assert outcome.status == 2
        assert problem in outcome.err


def test_verify_file_is_the_former_name_of_check(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    file = preact_run.path / MODEL_INT8_CPU
    former, check = skipfold("verify", "--file", file), skipfold("check", file)
    assert (former.status, former.out) == (check.status, check.out)
    assert "--file" not in skipfold("verify", "--help").out


@pytest.mark.parametrize(
    "other",
    [
        ("--depth", 8), ("--engine", "ort"), ("--precision", "int8"), ("--threads", 1), ("--force",),
        ("--device", "cpu"), ("--allow-saturation",), ("--run-dir", "runs/x"),
    ],
)  # fmt: skip
def test_options_that_a_file_has_no_use_for_are_refused(
    skipfold: Skipfold, preact_run: RunDirectory, other: tuple[object, ...]
) -> None:
    outcome = skipfold("verify", "--file", preact_run.path / MODEL_INT8_CPU, *other)
    assert_refused(outcome, "is checked by itself", "check ")


def test_check_for_tensorrt_names_nodes_and_fixes(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold("check", preact_run.path / MODEL_INT8_CPU, "--for", "trt", "--json")
    assert outcome.status == 1
    first, second, *_ = outcome.document["findings"]
    assert first["node"] == second["node"] == "images.quantize"
    assert "uint8" in first["problem"] and "zero point" in second["problem"]
    assert "int8" in first["fix"]


def test_check_for_tensorrt_knows_what_a_gpu_lacks(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    file = preact_run.path / MODEL_INT8_GPU
    outcome = skipfold("check", file, "--for", "trt")
    assert outcome.status == 0
    assert "no objections" in outcome.out
    outcome = skipfold("check", file, "--for", "trt", "--target", "sm75,sm89")
    assert outcome.status == 1
    assert "has no int8 Conv on sm75" in outcome.out
    assert "1 objections" in outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "sm89"), ("--target sm89 is for GPUs", "--for trt")),
        (("--for", "trt", "--target", "ampere"), ("unknown --target 'ampere'", "sm89")),
        (("--for", "ort"), ("--for",)),
    ],
)
def test_options_of_the_check_that_mean_nothing_are_refused(
    skipfold: Skipfold, preact_run: RunDirectory, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(skipfold("check", preact_run.path / MODEL_INT8_GPU, *options), *words)
