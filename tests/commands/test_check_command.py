"""`check FILE`, and `verify --file` as it used to be called."""

from command_line import DEPTH, Skipfold

from artifacts.names import (
    CHECKPOINT,
    MODEL,
    MODEL_INT8_CPU,
)
from artifacts.run_directory import RunDirectory


def test_verify_of_a_file_proves_or_names_what_saturates(
    skipfold: Skipfold, preact_run: RunDirectory
) -> None:
    outcome = skipfold("verify", "--file", preact_run.path / MODEL_INT8_CPU, "--json")
    assert outcome.status == 1
    verdicts = {entry["node"]: entry["verdict"] for entry in outcome.document["operators"]}
    assert (verdicts["stem.conv"], verdicts["stage1.0.residual.conv2"]) == ("free", "can saturate")
    assert skipfold("calibrate", *DEPTH, "--saturation", "proved").status == 0
    outcome = skipfold("verify", "--file", preact_run.path / MODEL_INT8_CPU)
    assert outcome.status == 0
    assert "saturation-free" in outcome.out


def test_verify_of_a_file_without_integer_convolutions(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    for name, problem in ((MODEL, "holds no integer convolution"), (CHECKPOINT, "is not a valid ONNX file")):
        outcome = skipfold("verify", "--file", preact_run.path / name)
        assert outcome.status == 2
        assert problem in outcome.err
