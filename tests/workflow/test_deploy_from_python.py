"""A deployment without the command line."""

import pytest

from artifacts.names import REPORT
from artifacts.run_directory import RunDirectory
from errors import UserError
from vocabulary import Stream
from workflow.deploy import Deployment, deploy
from workflow.options import (
    LimitOptions,
    QuantizeOptions,
    RunOptions,
    TimingOptions,
    TrainingOptions,
    WeightsOptions,
)


@pytest.fixture
def deployed(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Without a builder of engines, as on a machine that TensorRT does not exist for."""
    monkeypatch.setattr("runtimes.tensorrt.package.version_of", lambda package: None)
    return deploy(RunOptions(run_dir=preact_run.path), timing=TimingOptions(seconds=0.02))


def test_it_returns_what_it_found_and_prints_nothing(
    deployed: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    assert capfd.readouterr() == ("", "")
    assert deployed.passed
    assert {(line.engine, line.precision) for line in deployed.summary.lines} >= {
        ("torch", "fp32"), ("ort", "fp32"), ("ort", "int8"), ("openvino", "int8"), ("reference", "fp8"),
    }  # fmt: skip
    assert [reason.split(":")[0] for reason in deployed.skipped] == ["build", "trt"]
    assert (deployed.session.run.path / REPORT).is_file()
    assert deployed.search is None


def test_one_row_out_of_tolerance_is_no_pass(deployed: Deployment) -> None:
    rows = [{**row, "passed": number > 0} for number, row in enumerate(deployed.rows)]
    assert not Deployment(deployed.session, deployed.summary, rows, []).passed


def test_options_that_exclude_one_another_are_refused_before_any_work(preact_run: RunDirectory) -> None:
    run = RunOptions(run_dir=preact_run.path)
    before = preact_run.recorded()
    with pytest.raises(UserError, match="chooses what --stream would set"):
        deploy(run, quantize=QuantizeOptions(stream=Stream.int8), limit=LimitOptions(max_drop=0.5))
    weights = WeightsOptions(checkpoint=preact_run.path / "checkpoint.safetensors")
    with pytest.raises(UserError, match="--from takes weights over"):
        deploy(run, weights, TrainingOptions(epochs=3))
    assert RunDirectory(preact_run.path).recorded() == before
