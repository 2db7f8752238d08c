"""Which artifacts of a run go into a bundle, under which names, in which order, with which verdicts."""

import json
from dataclasses import replace

import pytest
from fault_injection import publish_engine

from artifacts.names import ACCURACY, BENCHMARK, MODEL, MODEL_FP16, MODEL_INT8_CPU, MODEL_INT8_RTX, PARITY
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from artifacts.stages import STAGES
from bundling.candidates import Candidate, candidates_of
from bundling.document import VerdictEntry
from bundling.entries import entry_of, limit_of
from bundling.judged import Judged, judged_in, plans_in
from errors import UserError
from graphs.card import GraphCard
from graphs.onnx_file import card_from_file
from machine.description import this_machine
from runtimes.subjects import Subject, subject_in
from runtimes.tensorrt.engine_card import EngineCard
from verification.rows import row_of
from vocabulary import BuilderName, Device, Precision

PASSED = VerdictEntry(True, 360, 45.0, 100.0, 99.0, 0.0, this_machine())


def graphs_in(run: RunDirectory) -> list[Subject]:
    return [subject_in(run, engine, name) for engine in ("ort", "openvino") for name in ("fp32", "int8")]


def write_table(run: RunDirectory, name: str, stage: str, rows: list[dict[str, object]]) -> None:
    with run.writing(Step(stage, {}, (), (name,))) as folder:
        document = {"machine": this_machine().to_json(), "rows": rows}
        (folder / name).write_text(json.dumps(document))


def test_verdicts_are_those_of_both_tables(preact_run: RunDirectory) -> None:
    first, *others = graphs_in(preact_run)
    parity = {"images": 360, "snr_db": 45.0, "agreement": 100.0, "passed": True}
    write_table(preact_run, PARITY, "verify", [row_of(preact_run, first, parity)])
    figures = {"accuracy": 99.0, "drop": 0.0}
    write_table(preact_run, ACCURACY, "verify", [row_of(preact_run, first, figures)])
    judged = judged_in(preact_run, [first, *others])
    assert judged == [Judged(first, PASSED), *(Judged(subject, None) for subject in others)]
    assert [entry.passed for entry in judged] == [True, False, False, False]


@pytest.mark.parametrize("field", ["artifact_sha256", "checkpoint_sha256"])
def test_a_verdict_on_other_files_does_not_hold(preact_run: RunDirectory, field: str) -> None:
    subject = graphs_in(preact_run)[0]
    for name, figures in (
        (PARITY, {"images": 360, "snr_db": 45.0, "agreement": 100.0, "passed": True}),
        (ACCURACY, {"accuracy": 99.0, "drop": 0.0}),
    ):
        row = row_of(preact_run, subject, figures)
        write_table(preact_run, name, "verify", [row | {field: "of an earlier file"}])
    assert judged_in(preact_run, [subject]) == [Judged(subject, None)]


@pytest.mark.parametrize("name", [PARITY, ACCURACY])
@pytest.mark.parametrize("change", ["another revision", "another content"])
def test_a_verdict_of_other_code_or_by_hand_does_not_hold(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, name: str, change: str
) -> None:
    subject = graphs_in(preact_run)[0]
    parity = {"images": 360, "snr_db": 45.0, "agreement": 100.0, "passed": True}
    for table, figures in ((PARITY, parity), (ACCURACY, {"accuracy": 99.0, "drop": 0.0})):
        write_table(preact_run, table, "verify", [row_of(preact_run, subject, figures)])
    assert judged_in(preact_run, [subject]) == [Judged(subject, PASSED)]
    if change == "another revision":
        raised = replace(STAGES["verify"], revision=STAGES["verify"].revision + 1)
        monkeypatch.setitem(STAGES, "verify", raised)
    else:
        (preact_run.path / name).write_text((preact_run.path / name).read_text() + "\n")
    assert judged_in(preact_run, [subject]) == [Judged(subject, None)]


def test_latencies_of_other_code_do_not_count(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = graphs_in(preact_run)[:2]
    rows = [
        row_of(preact_run, one, {"batch": 1, "p50_ms": ms})
        for one, ms in zip(subjects, (1.0, 2.0), strict=True)
    ]
    write_table(preact_run, BENCHMARK, "benchmark", rows)
    judged = [Judged(subject, PASSED) for subject in subjects]
    assert ids_of(preact_run, judged) == ["ort-fp32", "ort-int8"]
    raised = replace(STAGES["benchmark"], revision=STAGES["benchmark"].revision + 1)
    monkeypatch.setitem(STAGES, "benchmark", raised)
    assert ids_of(preact_run, judged) == ["ort-int8", "ort-fp32"]


def test_plans_of_an_earlier_network_are_no_plans_of_the_run(preact_run: RunDirectory) -> None:
    publish_engine(preact_run, "engines/fp32.rtx.engine")
    assert [plan.artifact for plan in plans_in(preact_run, [Precision.fp32])] == ["engines/fp32.rtx.engine"]
    assert plans_in(preact_run, [Precision.int8]) == []
    with preact_run.writing(Step("export", {}, (), (MODEL,))) as folder:
        (folder / MODEL).write_bytes(b"another network")
    assert plans_in(preact_run, [Precision.fp32]) == []


def test_a_sidecar_that_was_changed_is_refused(preact_run: RunDirectory) -> None:
    publish_engine(preact_run, "engines/fp32.rtx.engine")
    (plan,) = plans_in(preact_run, [Precision.fp32])
    sidecar = preact_run.path / "engines/fp32.rtx.json"
    sidecar.write_text(sidecar.read_text() + "\n")
    with pytest.raises(UserError, match=r"fp32\.rtx\.json"):
        candidates_of(preact_run, [Judged(plan, PASSED)])


def test_a_failed_verdict_is_not_passed(preact_run: RunDirectory) -> None:
    subject = graphs_in(preact_run)[0]
    assert not Judged(subject, replace(PASSED, passed=False)).passed


def ids_of(run: RunDirectory, judged: list[Judged]) -> list[str]:
    return [candidate.id for candidate in candidates_of(run, judged)]


def test_narrow_precisions_come_first_where_nothing_was_timed(preact_run: RunDirectory) -> None:
    judged = [Judged(subject, PASSED) for subject in graphs_in(preact_run)]
    expected = ["openvino-int8", "ort-int8", "openvino-fp32", "ort-fp32"]
    assert ids_of(preact_run, judged) == ids_of(preact_run, judged[::-1]) == expected


def test_the_fastest_comes_first_where_artifacts_were_timed(preact_run: RunDirectory) -> None:
    subjects = graphs_in(preact_run)
    latencies = zip(subjects, (3.0, 1.0, 2.0, 4.0), strict=True)
    rows = [row_of(preact_run, one, {"batch": 1, "p50_ms": ms}) for one, ms in latencies]
    rows += [row_of(preact_run, one, {"batch": 32, "p50_ms": 0.1}) for one in subjects[:1]]
    write_table(preact_run, BENCHMARK, "benchmark", rows)
    judged = [Judged(subject, PASSED) for subject in subjects]
    assert ids_of(preact_run, judged) == ["ort-int8", "openvino-fp32", "ort-fp32", "openvino-int8"]


def test_what_is_verified_comes_before_what_is_not(preact_run: RunDirectory) -> None:
    int8, fp32 = (subject_in(preact_run, "ort", name) for name in ("int8", "fp32"))
    assert ids_of(preact_run, [Judged(int8, None), Judged(fp32, PASSED)]) == ["ort-fp32", "ort-int8"]


def made_up_plan(graph: GraphCard, **more: object) -> EngineCard:
    plan = EngineCard(
        *(BuilderName.rtx, "1.7.1", Precision.int8, ("sm89",), {}, "plan", "", ((1, 1, 1), (1, 32, 128))),
        *({}, (), {}, "", "", 1.0, 1, graph.to_properties()),
    )
    return replace(plan, **more)  # type: ignore[arg-type]


@pytest.fixture
def graph(bundled_run: RunDirectory) -> GraphCard:
    return card_from_file(bundled_run.path / MODEL_INT8_CPU)


def plan_candidate(graph: GraphCard, verdict: VerdictEntry | None = None, **more: object) -> Candidate:
    plan = made_up_plan(graph, **more)
    subject = Subject("trt", plan.precision, "engines/some.engine", Device.cuda)
    return Candidate(Judged(subject, verdict), "some", plan.graph, plan)


@pytest.mark.parametrize(
    ("more", "engine", "artifact"),
    [
        ({}, "reference-rtx", MODEL_INT8_RTX),
        ({"builder": BuilderName.tensorrt}, "reference", "model.int8.gpu.onnx"),
        ({"precision": Precision.fp16}, "reference", MODEL_FP16),
        ({"precision": Precision.fp32}, "ort", MODEL),
    ],
)
def test_the_graph_of_an_unverified_plan_gives_the_golden_logits(
    graph: GraphCard, more: dict[str, object], engine: str, artifact: str
) -> None:
    candidate = plan_candidate(graph, **more)
    golden = candidate.golden_subject
    assert (golden.engine, golden.artifact, golden.device) == (engine, artifact, "cpu")
    assert golden.precision == candidate.subject.precision
    assert candidate.source == artifact
    entry = entry_of(candidate)
    assert entry.golden.engine == engine
    assert entry.golden.snr_db == entry.tolerance.snr_db


def test_a_verified_plan_gives_its_own_golden_logits(graph: GraphCard) -> None:
    candidate = plan_candidate(graph, PASSED)
    assert candidate.golden_subject == candidate.subject
    assert limit_of(candidate) == 30


@pytest.mark.parametrize(
    ("more", "runtime", "accepts", "capabilities"),
    [
        ({}, "tensorrt-rtx", "exact", (89,)),
        ({"targets": ()}, "tensorrt-rtx", "exact", (80, 86, 89, 120, 121)),
        ({"targets": ("sm75", "sm120")}, "tensorrt-rtx", "exact", (75, 120)),
        ({"builder": BuilderName.tensorrt, "targets": (), "capability": 90}, "tensorrt", "exact", (90,)),
        (
            {"builder": BuilderName.tensorrt, "options": {"version_compatible": True}, "capability": 86},
            *("tensorrt", "same major", (86,)),
        ),
    ],
)
def test_a_plan_names_its_library_and_its_gpus(
    graph: GraphCard, more: dict[str, object], runtime: str, accepts: str, capabilities: tuple[int, ...]
) -> None:
    entry = entry_of(plan_candidate(graph, **more))
    assert (entry.runtime.name, entry.runtime.accepts, entry.format) == (runtime, accepts, f"{runtime} plan")
    assert entry.runtime.verified_version == "1.7.1"
    assert entry.hardware.compute_capability == capabilities
    assert (entry.input.batch.min, entry.input.batch.max) == (1, 128)


@pytest.mark.parametrize(
    ("saturation", "vnni"), [("full", "required"), ("stem", "not needed"), ("proved", "not needed")]
)
def test_full_weights_need_vnni(
    bundled_run: RunDirectory, graph: GraphCard, saturation: str, vnni: str
) -> None:
    subject = subject_in(bundled_run, "ort", "int8")
    entry = entry_of(Candidate(Judged(subject, None), "ort-int8", replace(graph, saturation=saturation)))
    assert entry.hardware.vnni == vnni
    assert entry.hardware.compute_capability == ()
