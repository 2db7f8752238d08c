"""Which engines are timed, what becomes of those that do not run, and the exit status."""

from dataclasses import replace
from typing import Any

import pytest
from pretended_gpus import set_gpus
from recorded_calls import HeardProgress
from stub_runtimes import stubbed

from artifacts.names import MODEL
from artifacts.run_directory import RunDirectory
from errors import CheckFailed, UserError
from machine.gpu import Gpu
from runtimes import timing
from runtimes.engines import ENGINES, TIMED
from runtimes.runtime import LayerTime
from verification.refusal import FAILED, NOT_RUN, Refusal
from verification.regressions import Changes
from vocabulary import Device, Precision
from workflow.benchmark import Outcome, benchmark_of, candidates_from_options, outcome_fields
from workflow.choice import Session, session_from_options
from workflow.options import BenchmarkOptions, RunOptions, RuntimeOptions, TimedSubjectOptions

FP32, BF16, INT8 = Precision.fp32, Precision.bf16, Precision.int8
PACE: dict[tuple[str, str, str], Any] = {
    ("torch", "fp32", "cpu"): 4.0,
    ("torch", "bf16", "cpu"): 3.0,
    ("torch-compile", "fp32", "cpu"): 2.0,
    ("torch-compile", "bf16", "cpu"): 2.0,
    ("ort", "fp32", "cpu"): 1.0,
    ("ort", "int8", "cpu"): 0.5,
    ("openvino", "fp32", "cpu"): 1.0,
    ("openvino", "int8", "cpu"): 0.5,
}
BROKEN = {"milliseconds": 1.0, "fails_to_open": UserError("no C++ compiler", "install one")}
SHORT = BenchmarkOptions(batch=[1, 2], seconds=0.01)


@pytest.fixture(autouse=True)
def machine_without_a_gpu_and_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch)
    monkeypatch.setattr("machine.gpu.gpus", list)
    monkeypatch.setattr("machine.cpu.available_threads", lambda: 1)
    monkeypatch.setattr("runtimes.subjects.computes_in_bfloat16", lambda device: True)
    monkeypatch.setattr(timing, "ROUNDS", 2)


def session_of(run: RunDirectory) -> Session:
    return session_from_options(RunOptions(run_dir=run.path), HeardProgress())


def candidates(
    engine: list[str] | None, precision: list[Precision] | None = None, device: Device | None = None
) -> list[tuple[str, str, str, bool]]:
    found = candidates_from_options(TimedSubjectOptions(engine, precision), device)
    return [(one.spec.name, one.precision, one.device, one.named) for one in found]


def outcome_of(
    run: RunDirectory, engine: list[str] | None, options: BenchmarkOptions = SHORT, **more: Any
) -> Outcome:
    subjects = TimedSubjectOptions(engine, more.get("precision"))
    return benchmark_of(session_of(run), subjects, more.get("device"), RuntimeOptions(), options)


def test_by_default_what_runs_here_and_pytorch_in_16_bits() -> None:
    assert candidates(None) == [
        ("torch", "fp32", "cpu", False),
        ("torch", "bf16", "cpu", False),
        ("ort", "fp32", "cpu", False),
        ("ort", "int8", "cpu", False),
        ("openvino", "fp32", "cpu", False),
        ("openvino", "int8", "cpu", False),
    ]
    assert candidates(None, [INT8]) == [("ort", "int8", "cpu", False), ("openvino", "int8", "cpu", False)]
    assert [one[:3] for one in candidates(None, None, Device.cuda)] == [
        ("torch", "fp32", "cuda"),
        ("torch", "fp16", "cuda"),
        ("torch", "bf16", "cuda"),
        ("ort", "fp32", "cuda"),
        ("ort", "fp16", "cuda"),
    ]


def test_a_named_engine_has_its_precisions_or_those_that_are_named() -> None:
    assert candidates(["ort"]) == [("ort", "fp32", "cpu", True), ("ort", "int8", "cpu", True)]
    assert candidates(["ort", "torch"], [BF16]) == [
        ("torch", "bf16", "cpu", True),
        ("ort", "bf16", "cpu", True),
    ]


def test_all_is_every_engine_on_every_device_that_it_could_run_on() -> None:
    found = candidates(["all"])
    assert {engine for engine, *_ in found} == set(TIMED)
    assert not {"reference", "reference-rtx"} & {engine for engine, *_ in found}
    assert ("torch", "fp16", "cuda", False) in found and ("torch", "bf16", "cpu", False) in found
    assert [one[:3] for one in found if one[0] == "trt"] == [
        ("trt", precision, "cuda") for precision in Precision
    ]
    assert len(found) == len(set(found))
    assert {one[2] for one in candidates(["all"], None, Device.cpu)} == {"cpu"}
    assert {one[1] for one in candidates(["all"], [INT8])} == {"int8"}


def test_an_engine_that_is_named_beside_all_counts_as_named() -> None:
    for engines in (["all", "ort"], ["ort", "all"]):
        named = {one[:3]: one[3] for one in candidates(engines)}
        assert named["ort", "int8", "cpu"] and not named["openvino", "int8", "cpu"]


def test_no_engine_for_a_precision_is_refused() -> None:
    with pytest.raises(UserError, match="no engine runs that precision here"):
        candidates(None, [Precision.fp8])


@pytest.mark.parametrize("engines", [["all"], None, ["ort", "openvino"]])
def test_engine_whose_library_does_not_load_is_a_row(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, engines: list[str] | None
) -> None:
    stubbed(monkeypatch, PACE)
    broken = replace(ENGINES["openvino"], adapter="no_such_module:Runtime")
    monkeypatch.setattr("runtimes.engines.ENGINES", {**ENGINES, "openvino": broken})
    monkeypatch.setattr("workflow.benchmark.ENGINES", {**ENGINES, "openvino": broken})
    outcome = outcome_of(preact_run, engines, device=Device.cpu)
    assert "ort" in {row["engine"] for row in outcome.rows}
    (refusal,) = [one for one in outcome.refusals if one.engine == "openvino"]
    assert (refusal.precision, refusal.device) == ("fp32", "cpu")
    assert "the engine openvino does not load" in refusal.reason
    assert outcome.exit_status == (2 if engines and "openvino" in engines else 0)


def test_of_all_engines_those_that_cannot_run_are_rows_and_nobody_asked_for_them(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed(monkeypatch, PACE | {("torch-compile", "fp32", "cpu"): BROKEN})
    outcome = outcome_of(preact_run, ["all"])
    assert {row["engine"] for row in outcome.rows} == {"torch", "torch-compile", "ort", "openvino"}
    assert {row["batch"] for row in outcome.rows} == {1, 2}
    reasons = {(one.engine, one.precision, one.device): one.reason for one in outcome.refusals}
    assert reasons.pop(("torch-compile", "fp32", "cpu")) == "no C++ compiler"
    assert {device for _, _, device in reasons} == {"cuda"}
    assert set(reasons.values()) == {"this machine has no NVIDIA driver or GPU"}
    assert {precision for engine, precision, _ in reasons if engine == "trt"} == set(Precision)
    assert outcome.exit_status == 0
    # No engine was built only to say that it cannot be run.
    assert not (preact_run.path / "engines").exists()
    rows = outcome_fields(outcome)["rows"]
    assert len(rows) == len(outcome.rows) + len(outcome.refusals)
    assert {row["status"] for row in rows} == {"measured", "not run"}
    assert all(row["reason"] for row in rows if row["status"] == "not run")


def test_an_engine_that_was_named_and_does_not_run_is_exit_status_2(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed(monkeypatch, PACE | {("torch-compile", "fp32", "cpu"): BROKEN})
    outcome = outcome_of(preact_run, ["ort", "torch-compile"], precision=[FP32])
    assert {row["engine"] for row in outcome.rows} == {"torch", "ort"}
    assert [(one.engine, one.status) for one in outcome.refusals] == [("torch-compile", "not run")]
    assert outcome.exit_status == 2
    assert outcome_of(preact_run, ["all", "torch-compile"]).exit_status == 2
    assert outcome_of(preact_run, ["all", "ort"]).exit_status == 0


def test_a_precision_that_a_named_engine_does_not_have_is_a_row_as_well(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed(monkeypatch, PACE)
    outcome = outcome_of(preact_run, ["ort", "torch"], precision=[BF16])
    assert [(one.engine, one.precision) for one in outcome.refusals] == [("ort", "bf16")]
    assert "no float16 kernels" in outcome.refusals[0].reason
    assert outcome.exit_status == 2


def test_failed_check_is_exit_status_1_whoever_asked(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"milliseconds": 1.0, "fails_to_open": CheckFailed("float convolutions", "calibrate again")}
    stubbed(monkeypatch, PACE | {("ort", "int8", "cpu"): failed, ("torch-compile", "fp32", "cpu"): BROKEN})
    assert outcome_of(preact_run, ["all"]).exit_status == 1
    assert outcome_of(preact_run, None).exit_status == 1
    assert outcome_of(preact_run, ["ort", "torch-compile"]).exit_status == 1


@pytest.mark.parametrize(
    ("statuses", "named", "regressions", "expected"),
    [
        ((), {"ort"}, 0, 0),
        ((NOT_RUN,), set(), 0, 0),
        ((NOT_RUN,), {"ort"}, 0, 2),
        ((NOT_RUN,), {"openvino"}, 0, 0),
        ((NOT_RUN, FAILED), {"ort"}, 0, 1),
        ((FAILED,), set(), 0, 1),
        ((), set(), 1, 1),
        ((NOT_RUN,), {"ort"}, 1, 1),
    ],
)
def test_exit_status(statuses: tuple[str, ...], named: set[str], regressions: int, expected: int) -> None:
    refusals = [Refusal("ort", "fp32", "cpu", None, status, "…", "…") for status in statuses]
    gone: Any = ("a change",) * regressions
    who = frozenset((engine, "fp32", "cpu") for engine in named)
    outcome = Outcome([], refusals, who, {}, Changes(gone, (), 0, (), ()))
    assert outcome.exit_status == expected


def test_engine_that_does_not_run_any_more_is_exit_status_1() -> None:
    changes = Changes((), (), 0, (), (), stopped=("ort fp32 on cpu, batch 1",))
    assert Outcome([], [], frozenset(), {}, changes).exit_status == 1


def test_nothing_that_can_run_is_the_error_of_the_first(preact_run: RunDirectory) -> None:
    with pytest.raises(UserError, match="ort cannot run bf16 on cpu"):
        outcome_of(preact_run, ["ort"], precision=[BF16])


def test_gpu_that_is_there_is_used(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT has no engine of these stubs, so that its rows say so; PyTorch and ONNX Runtime run."""
    gpu = Gpu("NVIDIA L4", 89)
    set_gpus(monkeypatch, gpu)
    monkeypatch.setattr("machine.gpu.gpus", lambda: [gpu])
    monkeypatch.setattr("workflow.measure.ensure_engines", lambda session, precisions: None)
    on_gpu = {(engine, precision, "cuda"): 1.0 for engine, precision, _ in PACE}
    on_gpu |= {
        ("torch", "fp16", "cuda"): 1.0,
        ("torch-compile", "fp16", "cuda"): 1.0,
        ("ort", "fp16", "cuda"): 1.0,
    }
    stubbed(monkeypatch, PACE | on_gpu)
    outcome = outcome_of(preact_run, ["torch", "torch-compile", "ort", "trt"], device=Device.cuda)
    assert {row["device"] for row in outcome.rows} == {"cuda"}
    assert {row["precision"] for row in outcome.rows if row["engine"] == "torch-compile"} == {
        *("fp32", "fp16", "bf16"),
    }
    assert {one.engine for one in outcome.refusals} == {"trt"}
    assert "no fp32 engine for this machine" in outcome.refusals[0].reason


def test_engine_that_fails_at_the_largest_batch_size_has_no_profile(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_memory = {"milliseconds": 1.0, "fails_at": {2: UserError("too little memory", "take a smaller batch")}}
    stubs = stubbed(monkeypatch, PACE | {("ort", "int8", "cpu"): no_memory})
    options = BenchmarkOptions(batch=[1, 2], seconds=0.01, profile=True)
    outcome = outcome_of(preact_run, ["ort"], options)
    assert [(one.engine, one.precision, one.batch) for one in outcome.refusals] == [("ort", "int8", 2)]
    assert [one.subject.precision for one in outcome.profiles] == ["fp32"]
    assert [stub.subject.precision for stub in stubs.opened[3:]] == ["fp32"]


def test_profiles_are_of_what_was_measured_at_the_largest_batch_size(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [LayerTime("stem", 1.0), LayerTime("block", 3.0)]
    fast = {"milliseconds": 1.0, "layers": layers}
    stubbed(monkeypatch, PACE | {("ort", "fp32", "cpu"): fast, ("ort", "int8", "cpu"): BROKEN})
    options = BenchmarkOptions(batch=[2, 1], seconds=0.01, profile=True)
    outcome = outcome_of(preact_run, ["ort", "torch"], options)
    told = {
        (one.subject.engine, one.subject.precision): one.layers and [layer.name for layer in one.layers]
        for one in outcome.profiles
    }
    assert told == {("ort", "fp32"): ["block", "stem"], ("torch", "fp32"): None, ("torch", "bf16"): None}
    assert {one.batch for one in outcome.profiles} == {2}
    profile = next(one for one in outcome_fields(outcome)["profiles"] if one["layers"])
    assert profile["subject"]["artifact"] == MODEL
    assert profile["layers"][0] == {"name": "block", "ms": 3.0}
