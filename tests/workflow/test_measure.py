"""Every option of a measurement reaches the stage that measures, and the runtimes that the stage opens."""

import itertools
from pathlib import Path

import pytest
from recorded_calls import HeardProgress, answered_at, opened_runtimes
from rewritten_files import rewritten, stamps_of

from artifacts.names import BENCHMARK, LATENCY_PLOT, PARITY, REPORT
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan
from errors import UserError
from runtimes import timing
from runtimes.engines import ENGINES
from runtimes.subjects import Subject, subject_in
from runtimes.timing import ROUNDS
from verification.latency import BATCH_SIZES, Benchmark
from vocabulary import Device, Precision
from workflow.choice import Session, session_from_options
from workflow.measure import benchmarked, reported, subjects_from_options, subjects_of, verified
from workflow.options import RunOptions, RuntimeOptions, SubjectOptions, TimingOptions
from workflow.stages import calibrated

SHORTEST = TimingOptions(seconds=0.01)
# One option at a time, so that two which were swapped are seen.
RUNTIME_OPTIONS = [
    RuntimeOptions(threads=3),
    RuntimeOptions(allow_saturation=True),
    RuntimeOptions(cuda_graphs=False),
]


def session_of(run: RunDirectory, force: bool = False) -> Session:
    return session_from_options(RunOptions(run_dir=run.path), HeardProgress(), force)


def heard_by(session: Session) -> HeardProgress:
    assert isinstance(session.listener, HeardProgress)
    return session.listener


def int8_in(session: Session, *engines: str) -> list[Subject]:
    return [subject_in(session.run, engine, "int8") for engine in engines]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("runtime", RUNTIME_OPTIONS)
def test_verified_hands_every_option_down(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, runtime: RuntimeOptions, force: bool
) -> None:
    calls = answered_at(monkeypatch, "verification.verify.verdicts_from_artifacts", ([], True))
    session = session_of(preact_run, force)
    subjects = int8_in(session, "ort")
    assert verified(session, subjects, runtime) == []
    assert calls == [
        {
            "run": session.run,
            "dataset": session.dataset,
            "subjects": subjects,
            "threads": runtime.threads,
            "force": force,
            "progress": session.listener.progress,
            "allow_saturation": runtime.allow_saturation,
            "cuda_graphs": runtime.cuda_graphs,
        }
    ]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("runtime", RUNTIME_OPTIONS)
@pytest.mark.parametrize(
    ("given", "seconds", "batches"), [(None, 1.0, None), (0.25, 0.25, None), (None, 1.0, [4, 2])]
)
def test_benchmarked_hands_every_option_down(
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    runtime: RuntimeOptions,
    force: bool,
    given: float | None,
    seconds: float,
    batches: list[int] | None,
) -> None:
    nothing = Benchmark([], [], True)
    calls = answered_at(monkeypatch, "verification.latency.benchmark_from_artifacts", nothing)
    session = session_of(preact_run, force)
    subjects = int8_in(session, "ort")
    assert benchmarked(session, subjects, runtime, TimingOptions(given), batches) is nothing
    assert calls == [
        {
            "run": session.run,
            "dataset": session.dataset,
            "subjects": subjects,
            "threads": runtime.threads,
            "seconds": seconds,
            "force": force,
            "progress": session.listener.progress,
            "allow_saturation": runtime.allow_saturation,
            "batches": batches or BATCH_SIZES,
            "cuda_graphs": runtime.cuda_graphs,
        }
    ]


def test_runtimes_have_the_threads_that_were_asked_for(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(preact_run)
    subjects = int8_in(session, "ort", "openvino")
    opened = opened_runtimes(monkeypatch)
    verified(session, subjects, RuntimeOptions(threads=3))
    assert sorted(runtime.name for runtime in opened) == ["openvino", "ort", "torch"]
    assert {runtime.threads for runtime in opened} == {3}
    opened.clear()
    benchmarked(session, subjects, RuntimeOptions(threads=3), SHORTEST)
    assert sorted(runtime.name for runtime in opened) == ["openvino", "ort", "torch"]
    assert {runtime.threads for runtime in opened} == {3}
    assert session.run.record(BENCHMARK).options["threads"] == 3
    assert session.run.is_fresh(LATENCY_PLOT)


def test_weights_that_overflow_16_bits_are_run_only_where_the_user_insists(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(preact_run)
    calibrated(session, Plan(saturation="full"))
    monkeypatch.setattr("runtimes.acceptance.adds_products_in_16_bits", lambda: True)
    subjects = int8_in(session, "ort")
    refused, insisting = RuntimeOptions(), RuntimeOptions(allow_saturation=True)
    with pytest.raises(UserError, match="overflow 16 bits"):
        verified(session, subjects, refused)
    with pytest.raises(UserError, match="overflow 16 bits"):
        benchmarked(session, subjects, refused, SHORTEST)
    assert len(verified(session, subjects, insisting)) == 1
    assert len(benchmarked(session, subjects, insisting, SHORTEST).rows) == 2 * len(BATCH_SIZES)


def test_force_measures_again(preact_run: RunDirectory) -> None:
    def lines(force: bool) -> list[str]:
        session = session_of(preact_run, force)
        subjects = int8_in(session, "ort")
        verified(session, subjects, RuntimeOptions())
        benchmarked(session, subjects, RuntimeOptions(), SHORTEST)
        return [text for stage, text in heard_by(session).lines if stage in ("verify", "benchmark")]

    assert lines(force=False) == ["1 of 1 within tolerance", "6 rows, in turns with PyTorch"]
    before = stamps_of(preact_run, PARITY, BENCHMARK)
    assert all(text.startswith("up to date: ") for text in lines(force=False))
    assert rewritten(before, preact_run) == set()
    assert not any(text.startswith("up to date: ") for text in lines(force=True))
    assert rewritten(before, preact_run) == before.keys()


def test_listener_hears_what_is_being_measured(preact_run: RunDirectory) -> None:
    session = session_of(preact_run)
    subjects = int8_in(session, "ort")
    verified(session, subjects, RuntimeOptions())
    assert {"PyTorch original", "ort int8"} <= set(heard_by(session).loops)
    benchmarked(session, subjects, RuntimeOptions(), SHORTEST)
    assert {f"timing batch {batch}" for batch in BATCH_SIZES} <= set(heard_by(session).loops)


def test_engines_are_timed_for_the_seconds_that_were_asked_for(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock by which every call takes 1/1024 s, because a real clock would make the calls uncertain."""
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks) / 1024)
    session = session_of(preact_run)
    eight_calls_a_round = TimingOptions(seconds=8 * ROUNDS / 1024)
    rows = benchmarked(session, int8_in(session, "ort"), RuntimeOptions(), eight_calls_a_round).rows
    assert {row["calls"] for row in rows} == {8 * ROUNDS}
    assert {row["p50_ms"] for row in rows} == {1000 / 1024}


@pytest.mark.parametrize(
    ("device", "precisions"),
    [(None, ["fp32", "int8"]), (Device.cpu, ["fp32", "int8"]), (Device.cuda, ["fp32", "fp16"])],
)
def test_subjects_are_for_the_device_that_was_asked_for(
    preact_run: RunDirectory, device: Device | None, precisions: list[str]
) -> None:
    session = session_of(preact_run)
    chosen = subjects_from_options(session, SubjectOptions(engine=["ort"]), device)
    assert [(subject.device, subject.precision) for subject in chosen] == [
        (device or "cpu", precision) for precision in precisions
    ]
    (subject,) = subjects_of(session, ENGINES["ort"], [Precision.fp32], device)
    assert subject.device == (device or "cpu")


def test_subjects_have_the_engines_and_precisions_that_were_asked_for(preact_run: RunDirectory) -> None:
    session = session_of(preact_run)

    def chosen(engine: list[str] | None, precision: list[Precision] | None) -> list[tuple[str, str]]:
        subjects = subjects_from_options(session, SubjectOptions(engine, precision))
        return [(subject.engine, subject.precision) for subject in subjects]

    by_default = [("ort", "fp32"), ("ort", "int8"), ("openvino", "fp32"), ("openvino", "int8")]
    assert chosen(None, None) == by_default
    assert chosen(["openvino"], None) == by_default[2:]
    assert chosen(None, [Precision.int8]) == [by_default[1], by_default[3]]
    assert chosen(["reference"], [Precision.bf16]) == [("reference", "bf16")]


def test_report_names_what_was_skipped(preact_run: RunDirectory) -> None:
    session = session_of(preact_run)
    verified(session, int8_in(session, "ort"), RuntimeOptions())
    reported(session, ["build: no builder in this test"])
    page = Path(session.run.path / REPORT).read_text()
    assert "build: no builder in this test" in page
    assert "writing the report" in heard_by(session).loops
