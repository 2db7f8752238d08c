"""Every option group of a deployment reaches the stages it is for."""

from types import SimpleNamespace

import pytest
from recorded_calls import Arguments, HeardProgress, ReachedError, answered_at, stopped_at

from artifacts.names import CHECKPOINT, MODEL
from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from runtimes.subjects import Subject
from verification.latency import Benchmark
from verification.refusal import FAILED, NOT_RUN, Refusal
from vocabulary import Device
from workflow import deploy as deploy_module
from workflow.deploy import deploy
from workflow.options import (
    BuildOptions,
    DeviceOptions,
    LimitOptions,
    QuantizeOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    TimingOptions,
    TrainingOptions,
    WeightsOptions,
)

TRAINING = TrainingOptions(epochs=5)
QUANTIZE = QuantizeOptions(saturation="proved")
LIMIT = LimitOptions(max_drop=2.5)
BUILD = BuildOptions(target="sm89")
RUNTIME = RuntimeOptions(threads=3)
TIMING = TimingOptions(seconds=0.25)
STAGES = {
    "trained_unless_done": None,
    "exported": None,
    "searched": ({"recommendation": {}}, True),
    "calibrated_as_chosen": None,
    "built": {},
    "verified": [],
    "benchmarked": Benchmark([], [], True),
    "reported": SimpleNamespace(lines=[]),
}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Arguments]]:
    """The calls of each stage, and none of their work."""
    return {
        name: answered_at(monkeypatch, f"workflow.deploy.{name}", answer) for name, answer in STAGES.items()
    }


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    """The one engine of the deployment, without a look at what runs on this machine."""
    only = Subject("ort", "fp32", MODEL, "cpu")
    monkeypatch.setattr(deploy_module, "_deployable", lambda *_: [only])
    return only


@pytest.mark.parametrize("limit", [LIMIT, LimitOptions()], ids=["search", "no search"])
def test_every_group_reaches_its_stages(
    preact_run: RunDirectory, stages: dict[str, list[Arguments]], subject: Subject, limit: LimitOptions
) -> None:
    done = deploy(
        RunOptions(run_dir=preact_run.path),
        WeightsOptions(seed=7),
        TRAINING,
        QUANTIZE,
        limit,
        BUILD,
        DeviceOptions(Device.cuda),
        RUNTIME,
        TIMING,
        RedoOptions(force=True),
        listener := HeardProgress(),
    )
    session = done.session
    assert (session.run.path, session.force, session.listener) == (preact_run.path, True, listener)
    expected = {
        "trained_unless_done": {"options": TRAINING, "device": Device.cuda, "seed": 7},
        "exported": {"seed": None},
        "searched": {"options": QUANTIZE, "limit": LIMIT, "runtime": RUNTIME},
        "calibrated_as_chosen": {"options": QUANTIZE},
        "built": {"options": BUILD, "precisions": None},
        "verified": {"subjects": [subject], "runtime": RUNTIME},
        "benchmarked": {"subjects": [subject], "runtime": RUNTIME, "timing": TIMING, "batches": None},
        "reported": {"skipped": []},
    }
    del expected["calibrated_as_chosen" if limit == LIMIT else "searched"]
    called = {name: calls for name, calls in stages.items() if calls}
    assert called == {name: [{"session": session, **rest}] for name, rest in expected.items()}
    assert (done.search, done.searched_now) == (STAGES["searched"] if limit == LIMIT else (None, False))


def test_weights_that_are_taken_over_are_not_trained(
    preact_run: RunDirectory, stages: dict[str, list[Arguments]], subject: Subject
) -> None:
    deploy(
        RunOptions(run_dir=preact_run.path.with_name("another")),
        WeightsOptions(checkpoint=preact_run.path / CHECKPOINT),
    )
    assert stages["trained_unless_done"] == []
    assert len(stages["exported"]) == 1


@pytest.mark.parametrize("device", [None, Device.cuda])
def test_engines_are_chosen_for_the_device(
    preact_run: RunDirectory,
    stages: dict[str, list[Arguments]],
    monkeypatch: pytest.MonkeyPatch,
    device: Device | None,
) -> None:
    """On CUDA ONNX Runtime has fp32 and fp16, and OpenVINO stays on the CPU because it has no CUDA."""
    monkeypatch.setattr("machine.gpu.gpus", list)
    stopped_at(monkeypatch, "workflow.deploy.verified")
    calls = answered_at(monkeypatch, "workflow.deploy.subjects_of", [])
    with pytest.raises(ReachedError):
        deploy(RunOptions(run_dir=preact_run.path), device=DeviceOptions(device))
    asked = [(call["spec"].name, *call["precisions"], call["device"]) for call in calls]
    of_ort = ("ort", "fp32", "fp16", "cuda") if device else ("ort", "fp32", "int8", "cpu")
    assert asked == [
        of_ort,
        ("openvino", "fp32", "int8", "cpu"),
        ("reference", "fp16", "bf16", "int8", "fp8", "cpu"),
        ("reference-rtx", "int8", "fp8", "cpu"),
    ]


def refused(status: str) -> Benchmark:
    return Benchmark([], [Refusal("ort", "int8", "cpu", 8, status, "no memory", "take less")], True)


@pytest.mark.usefixtures("stages", "subject")
def test_engine_that_is_not_timed_is_told_and_a_failed_check_ends_the_deployment(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered_at(monkeypatch, "workflow.deploy.benchmarked", refused(NOT_RUN))
    done = deploy(RunOptions(run_dir=preact_run.path))
    assert done.skipped == ["benchmark of ort int8: no memory (take less)"]
    answered_at(monkeypatch, "workflow.deploy.benchmarked", refused(FAILED))
    with pytest.raises(CheckFailed, match="no memory: take less"):
        deploy(RunOptions(run_dir=preact_run.path))
