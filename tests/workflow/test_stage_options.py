"""Every option of a stage reaches the work that the stage is made of."""

from types import SimpleNamespace
from typing import Any

import pytest
from command_line import needs_rtx
from fault_injection import publish_engine
from recorded_calls import (
    Arguments,
    HeardProgress,
    ReachedError,
    answered_at,
    stopped_at,
)
from rewritten_files import rewritten, stamps_of

from artifacts.names import (
    MODEL,
    MODEL_BF16,
    MODEL_FP16,
    MODEL_REPARAMETRIZED,
    RANGES,
)
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_in
from calibration.quantizing.qdq import FILES
from calibration.ranges.methods import Method
from errors import UserError
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.plan_layers import Traffic
from runtimes.tensorrt.plan_options import PlanOptions
from vocabulary import BuilderName, Precision
from workflow.choice import Session, session_from_options
from workflow.options import BuildOptions, LimitOptions, QuantizeOptions, RunOptions, RuntimeOptions
from workflow.stages import (
    built,
    calibrated,
    ensure_engines,
    ensure_graphs,
    exported,
    searched,
)

# What `calibrated` writes.
QUANTIZED = (MODEL_REPARAMETRIZED, RANGES, *FILES.values())
ANY_DROP = LimitOptions(max_drop=100)


def session_of(run: RunDirectory, force: bool = False) -> Session:
    return session_from_options(RunOptions(run_dir=run.path), HeardProgress(), force)


def heard_by(session: Session) -> HeardProgress:
    assert isinstance(session.listener, HeardProgress)
    return session.listener


def test_exported_does_everything_again_where_it_is_forced(preact_run: RunDirectory) -> None:
    before = stamps_of(preact_run, MODEL, MODEL_FP16, MODEL_BF16)
    session = session_of(preact_run)
    assert not exported(session).done
    assert rewritten(before, preact_run) == set()
    assert "exporting" in heard_by(session).loops
    assert exported(session_of(preact_run, force=True)).done
    assert rewritten(before, preact_run) == before.keys()


@pytest.mark.parametrize("force", [False, True])
def test_calibrated_hands_every_option_down(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    calls = answered_at(monkeypatch, "calibration.plan.quantized_from_graph", ([], True))
    session = session_of(preact_run, force)
    plan = Plan(method=Method("minmax"), saturation="proved")
    calibrated(session, plan)
    assert calls == [
        {
            "run": session.run,
            "dataset": session.dataset,
            "plan": plan,
            "force": force,
            "progress": session.listener.progress,
        }
    ]


def test_calibrated_writes_every_file_again_where_it_is_forced(preact_run: RunDirectory) -> None:
    before = stamps_of(preact_run, *QUANTIZED)
    calibrated(session_of(preact_run), Plan())
    assert rewritten(before, preact_run) == set()
    session = session_of(preact_run, force=True)
    calibrated(session, Plan())
    assert rewritten(before, preact_run) == before.keys()
    loops = heard_by(session).loops
    assert "writing quantized graphs" in loops
    assert len(loops) > 2  # the passes and the ranges have loops, too


def search_arguments(session: Session, plan: Plan, **given: Any) -> Arguments:
    """What `search_from_graph` is called with; `given` is what a test varies."""
    unset = {"max_drop": 0.1, "threads": None, "allow_saturation": False, "force": False}
    fixed = {
        "run": session.run,
        "dataset": session.dataset,
        "base": plan,
        "progress": session.listener.progress,
    }
    return fixed | unset | given


@pytest.mark.parametrize(
    ("limit", "runtime", "force", "expected"),
    [
        (LimitOptions(), RuntimeOptions(), False, {}),
        (LimitOptions(max_drop=0), RuntimeOptions(), False, {"max_drop": 0}),
        (LimitOptions(max_drop=2.5), RuntimeOptions(), False, {"max_drop": 2.5}),
        (LimitOptions(), RuntimeOptions(threads=3), False, {"threads": 3}),
        (LimitOptions(), RuntimeOptions(allow_saturation=True), False, {"allow_saturation": True}),
        (LimitOptions(), RuntimeOptions(), True, {"force": True}),
    ],
)
def test_searched_hands_every_option_down(
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    limit: LimitOptions,
    runtime: RuntimeOptions,
    force: bool,
    expected: dict[str, Any],
) -> None:
    choice = Plan(method=Method("minmax"))
    result = SimpleNamespace(choice=choice)
    searches = answered_at(monkeypatch, "calibration.searching.search.search_from_graph", (result, True))
    graphs = answered_at(monkeypatch, "calibration.plan.quantized_from_graph", ([], True))
    errors = answered_at(monkeypatch, "calibration.searching.block_error.block_errors_from_ranges", True)
    session = session_of(preact_run, force)
    quantize = QuantizeOptions(saturation="proved", bias_correction=False)
    assert searched(session, quantize, limit, runtime) == (result, True)
    plan = Plan(saturation="proved", correct_bias=False)
    assert searches == [search_arguments(session, plan, **expected)]
    common = {
        "run": session.run,
        "dataset": session.dataset,
        "plan": choice,
        "force": force,
        "progress": session.listener.progress,
    }
    assert graphs == errors == [common]


@pytest.fixture
def built_run(preact_run: RunDirectory) -> RunDirectory:
    publish_engine(preact_run, "engines/fp32.rtx.engine")
    return RunDirectory(preact_run.path)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("options", "targets", "builder"),
    [
        (BuildOptions(), (), None),
        (BuildOptions(target="sm89, sm120"), ("sm89", "sm120"), None),
        (BuildOptions(builder=BuilderName.tensorrt), (), "tensorrt"),
    ],
)
def test_built_hands_every_option_down(
    built_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    options: BuildOptions,
    targets: tuple[str, ...],
    builder: str | None,
    force: bool,
) -> None:
    place = "runtimes.tensorrt.engine_from_onnx.engine_from_onnx"
    calls = answered_at(monkeypatch, place, ("engines/fp32.rtx.engine", True))
    session = session_of(built_run, force)
    assert list(built(session, options, [Precision.fp32])) == ["engines/fp32.rtx.engine"]
    assert calls == [
        {
            "run": session.run,
            "precision": "fp32",
            "targets": targets,
            "builder_name": builder,
            "force": force,
            "progress": session.listener.progress,
            "options": PlanOptions(),
        }
    ]


def test_without_a_named_precision_all_that_the_targets_have_are_built(
    built_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = answered_at(monkeypatch, "runtimes.tensorrt.targets.precisions_for", ["fp32", "fp16"])
    place = "runtimes.tensorrt.engine_from_onnx.engine_from_onnx"
    calls = answered_at(monkeypatch, place, ("engines/fp32.rtx.engine", True))
    built(session_of(built_run), BuildOptions(target="sm89", builder=BuilderName.rtx))
    assert offers == [{"targets": ("sm89",), "builder_name": "rtx"}]
    assert [call["precision"] for call in calls] == ["fp32", "fp16"]


def built_with_traffic(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, half: str, megabytes: float
) -> list[str]:
    """Pretend to build an int8 engine for sm89 beside an fp16 engine; return what was said of the former."""
    name = "engines/int8.rtx-sm89.engine"
    publish_engine(run, half, targets=("sm89",), traffic=(Traffic(32, 1, 13, 600.0, 203.9),))
    publish_engine(run, name, targets=("sm89",), traffic=(Traffic(32, 1, 13, megabytes, 200.0),))
    answered_at(monkeypatch, "runtimes.tensorrt.engine_from_onnx.engine_from_onnx", (name, True))
    session = session_of(RunDirectory(run.path))
    built(session, BuildOptions(target="sm89", builder=BuilderName.rtx), [Precision.int8])
    return [text for _, text in heard_by(session).lines if "expected to pay" in text]


@pytest.mark.parametrize(("megabytes", "words"), [(436.0, "expected to pay"), (744.0, "not expected to pay")])
def test_built_says_whether_a_quantized_engine_is_expected_to_pay(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, megabytes: float, words: str
) -> None:
    said = built_with_traffic(preact_run, monkeypatch, "engines/fp16.rtx-sm89.engine", megabytes)
    moved = f"INT8 moves {megabytes + 200:.1f} MB, FP16 803.9 MB at batch 32"
    assert said == [f"engines/int8.rtx-sm89.engine: {words}: {moved}"]


def test_engine_of_other_targets_is_nothing_to_compare_with(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not built_with_traffic(preact_run, monkeypatch, "engines/fp16.rtx.engine", 436.0)


@needs_rtx
def test_engine_is_for_the_target_and_is_built_again_where_that_is_forced(preact_run: RunDirectory) -> None:
    fp16 = [Precision.fp16]
    options = BuildOptions(target="sm89", builder=BuilderName.rtx)
    (name,) = built(session_of(preact_run), options, fp16)
    assert name == "engines/fp16.rtx-sm89.engine"
    before = stamps_of(preact_run, name)
    assert list(built(session_of(preact_run), options, fp16)) == [name]
    assert rewritten(before, preact_run) == set()
    session = session_of(preact_run, force=True)
    assert built(session, options, fp16)[name].targets == ("sm89",)
    assert rewritten(before, preact_run) == {name}
    # TensorRT adds the phase that it is in, if one has begun by then.
    (loop,) = heard_by(session).loops
    assert loop.partition(":")[0] == "building model.fp16 with TensorRT for RTX"


def test_builder_that_was_asked_for_is_the_one_that_is_missed(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimes.tensorrt.package.version_of", {BUILDERS["rtx"].package: "1.7"}.get)
    with pytest.raises(UserError, match=r"^TensorRT is not installed"):
        built(session_of(preact_run), BuildOptions(builder=BuilderName.tensorrt), [Precision.fp32])


def test_graphs_are_made_again_by_the_plan_they_were_made_by(preact_run: RunDirectory) -> None:
    calibrated(session_of(preact_run), Plan(saturation="proved"))
    before = stamps_of(preact_run, *QUANTIZED)
    ensure_graphs(session_of(preact_run), [Precision.fp16, Precision.int8])
    assert rewritten(before, preact_run) == set()
    RunDirectory(preact_run.path).discard(RANGES)
    ensure_graphs(session_of(preact_run), [Precision.fp16])
    assert RANGES not in RunDirectory(preact_run.path)
    ensure_graphs(session_of(preact_run), [Precision.int8])
    assert plan_in(RunDirectory(preact_run.path)) == Plan(saturation="proved")


def test_only_missing_engines_are_built(built_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stopped_at(monkeypatch, "workflow.stages.built")
    ensure_engines(session_of(built_run), [Precision.fp32])
    assert calls == []
    session = session_of(built_run)
    with pytest.raises(ReachedError):
        ensure_engines(session, [Precision.fp32, Precision.int8])
    assert calls == [{"session": session, "options": BuildOptions(), "precisions": [Precision.int8]}]
