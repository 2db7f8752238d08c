"""ONNX graph to engine: what is built, what is proved of the plan, and what is refused.

Longer than 300 lines because each refusal is tested on the graphs and pretended plans of the tests before it.
"""

import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from fault_injection import bypass_dequantize, graph_in, publish, set_card
from pretended_gpus import set_gpus

import runtimes.tensorrt.engine_from_onnx
import runtimes.tensorrt.package
from artifacts.names import (
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_RTX,
)
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import RTX as RTX_SCHEME
from calibration.quantizing.scheme import RTX_FP8, Scheme
from data.dataset import Dataset
from errors import CheckFailed, UserError
from graphs.onnx_file import card_from_file
from machine.gpu import Gpu
from progress import Item
from runtimes.engines import GPU_GRAPHS, GRAPHS_OF_BUILDERS
from runtimes.tensorrt.engine_card import card_of_engine, engine_name, files_of_engine, layers_of_engine
from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.plan_evidence import NONE, Evidence
from runtimes.tensorrt.plan_from_onnx import BuiltPlan
from runtimes.tensorrt.plan_options import DEFAULT_PROFILES, PlanOptions, Profile

RTX = BUILDERS["rtx"]
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "fp8": "float8"}
# The pre-activation network has nine convolutions; each graph has so many of them in the precision's type.
OF_THAT_TYPE = {"fp32": 9, "fp16": 9, "bf16": 9, "int8": 5, "fp8": 1}
# Two of the four GPUs that TensorRT for RTX builds for by itself have no FP8.
TARGETS = {precision: ("sm89", "sm120", "sm121") if precision == "fp8" else () for precision in TYPES}

GRAPHS = GRAPHS_OF_BUILDERS["rtx"]
PARTLY_FLOAT = [replace(scheme, float_blocks=("stage2.0.add",)) for scheme in (RTX_SCHEME, RTX_FP8)]

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


def _build(run: RunDirectory, precision: str, targets: tuple[str, ...] = (), force: bool = False):
    """With TensorRT for RTX, whatever this machine would choose."""
    return engine_from_onnx(run, precision, targets, "rtx", force)


def _convolutions(path: Path) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)


def _types(precision: str, graph: Path) -> dict[str, int]:
    """All convolutions are of one type, but those that a quantized graph leaves in float16."""
    in_float = card_from_file(graph).float_convolutions
    types = {TYPES[precision]: _convolutions(graph) - in_float}
    return types | ({"float16": in_float} if in_float else {})


@needs_rtx
@pytest.mark.parametrize("precision", GRAPHS)
def test_engine_of_each_precision_is_built_without_a_gpu(
    run: RunDirectory, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpus(monkeypatch)
    graph = run.verified(GRAPHS[precision])
    name, done = _build(run, precision)
    assert (name, done) == (engine_name(precision, RTX, TARGETS[precision]), True)
    plan = run.verified(name)
    card = card_of_engine(run.verified(name.replace(".engine", ".json")).with_suffix(".engine"))
    assert (card.builder, card.version) == ("rtx", version_of("tensorrt-rtx"))
    assert (card.precision, card.targets, card.batches) == (
        precision,
        TARGETS[precision],
        DEFAULT_PROFILES,
    )
    assert card.convolutions == _types(precision, graph)
    assert (card.proof, card.proof_sentence) == (
        "plan",
        "the types of the final layers, listed by the builder",
    )
    assert card.source == run.record(graph.name).sha256
    assert card.plan == run.record(name).sha256
    assert card.size == plan.stat().st_size > 10_000
    assert 0 < card.seconds < 60
    assert card.graph == card_from_file(graph)


@needs_rtx
def test_engine_that_is_up_to_date_is_kept(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp32")
    written = preact_run.verified(name).stat().st_mtime_ns
    assert _build(preact_run, "fp32") == (name, False)
    assert preact_run.verified(name).stat().st_mtime_ns == written
    assert _build(preact_run, "fp32", force=True) == (name, True)


@needs_rtx
def test_engine_of_a_changed_graph_is_built_again(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp32")
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert _build(preact_run, "fp32") == (name, True)
    assert card_of_engine(preact_run.verified(name)).source == preact_run.record(MODEL).sha256


@needs_rtx
def test_targets_have_one_order(preact_run: RunDirectory) -> None:
    name, done = _build(preact_run, "fp16", ("sm89", "sm86"))
    assert (name, done) == ("engines/fp16.rtx-sm86-sm89.engine", True)
    assert card_of_engine(preact_run.verified(name)).targets == ("sm86", "sm89")
    for same in (("sm86", "sm89"), ("sm89", "sm86", "sm89")):
        assert _build(preact_run, "fp16", same) == (name, False)


@needs_rtx
def test_order_of_targets_is_that_of_their_numbers(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp32", ("sm120", "sm89"))
    assert name == "engines/fp32.rtx-sm89-sm120.engine"


@needs_rtx
@pytest.mark.parametrize("target", ["sm90", "89", "SM89", "sm", "ampere", "current"])
def test_unknown_target_is_refused_and_the_known_are_listed(preact_run: RunDirectory, target: str) -> None:
    with pytest.raises(UserError, match=f"unknown --target '{target}'") as refusal:
        _build(preact_run, "fp32", ("sm89", target))
    assert "sm86, sm89" in refusal.value.fix
    assert not preact_run.recorded("engines/")


def test_tensorrt_takes_no_targets(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, Gpu("NVIDIA L4", 89))
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt": "11.0"}.get)
    with pytest.raises(UserError, match="for the GPU of this machine alone"):
        engine_from_onnx(preact_run, "fp32", ("sm89",), "tensorrt")


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "source"),
    [
        ("int8", MODEL_INT8_CPU),
        ("int8", MODEL),
        ("fp16", MODEL),
        ("bf16", MODEL_FP16),
        ("fp32", MODEL_INT8_GPU),
        ("fp8", MODEL_INT8_GPU),
        ("int8", MODEL_FP8_GPU),
        # Made for TensorRT, which fuses other patterns.
        ("int8", MODEL_INT8_GPU),
        ("fp8", MODEL_FP8_GPU),
    ],
)
def test_graph_made_for_something_else_is_refused(
    preact_run: RunDirectory, precision: str, source: str
) -> None:
    publish(preact_run, GRAPHS[precision], graph_in(preact_run, source))
    with pytest.raises(UserError, match=f"TensorRT for RTX was asked for {precision} of flavour") as refusal:
        _build(preact_run, precision)
    assert not isinstance(refusal.value, CheckFailed)


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "source"),
    [pair for pair in itertools.product(GRAPHS, GRAPHS) if pair[0] != pair[1]],
)
def test_graph_passed_off_as_another_precision_is_a_failed_check(
    preact_run: RunDirectory, precision: str, source: str
) -> None:
    """What TensorRT would build without a word: an engine of the precision that the graph has."""
    graph = graph_in(preact_run, GRAPHS[source])
    set_card(graph, precision=precision, flavour="rtx" if precision in ("int8", "fp8") else "any")
    publish(preact_run, GRAPHS[precision], graph)
    with pytest.raises(
        CheckFailed,
        match=f"would not run .* in {precision}: of 9 .*{OF_THAT_TYPE[source]} run in {TYPES[source]} "
        r"\(st(em|age1)",
    ):
        _build(preact_run, precision)
    assert not preact_run.recorded("engines/")
    assert not (preact_run.path / "engines").exists()


@needs_rtx
def test_one_convolution_that_is_not_quantized_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL_INT8_RTX)
    bypass_dequantize(graph, "stage1.0.residual.conv1")
    publish(preact_run, MODEL_INT8_RTX, graph)
    with pytest.raises(
        CheckFailed, match=r"is no graph for .*stage1\.0\.residual\.conv1: its data is in float"
    ):
        _build(preact_run, "int8")


@needs_rtx
def test_one_convolution_that_is_not_in_fp8_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL_FP8_RTX)
    bypass_dequantize(graph, "stage1.0.residual.conv1")
    publish(preact_run, MODEL_FP8_RTX, graph)
    with pytest.raises(
        CheckFailed, match=r"is no graph for .*stage1\.0\.residual\.conv1: its data is in float"
    ):
        _build(preact_run, "fp8")


@needs_rtx
@pytest.mark.parametrize("scheme", PARTLY_FLOAT, ids=lambda scheme: f"{scheme.precision}-{scheme.stream}")
def test_engine_with_blocks_in_float_counts_them(run: RunDirectory, scheme: Scheme) -> None:
    source = GRAPHS[scheme.precision]
    assert qdq_from_ranges(run, scheme)
    graph = run.verified(source)
    name, _ = _build(run, scheme.precision)
    card = card_of_engine(run.verified(name))
    assert card.convolutions == _types(scheme.precision, graph)
    assert card.graph == card_from_file(graph)


@needs_rtx
@pytest.mark.parametrize(("precision", "claimed"), [("int8", 1), ("fp8", 0), ("fp8", 2), ("fp32", 1)])
def test_other_number_of_float_convolutions_than_the_card_tells_is_a_failed_check(
    preact_run: RunDirectory, precision: str, claimed: int
) -> None:
    graph = graph_in(preact_run, GRAPHS[precision])
    set_card(graph, float_convolutions=claimed)
    publish(preact_run, GRAPHS[precision], graph)
    with pytest.raises(CheckFailed, match=f"would not run .* in {precision}"):
        _build(preact_run, precision)
    assert not preact_run.recorded("engines/")


@needs_rtx
@pytest.mark.parametrize("target", ["sm89", "sm120"])
def test_fp8_engine_is_built_for_one_target(preact_run: RunDirectory, target: str) -> None:
    assert _build(preact_run, "fp8", (target,)) == (f"engines/fp8.rtx-{target}.engine", True)


@needs_rtx
def test_sidecar_is_readable_json_with_the_graphs_metadata(preact_run: RunDirectory, digits: Dataset) -> None:
    _build(preact_run, "int8")
    document = json.loads(preact_run.verified("engines/int8.rtx.json").read_text())
    assert json.loads(document["properties"]["skipfold.classes"]) == list(digits.classes)
    assert json.loads(document["properties"]["skipfold.mean"]) == list(digits.mean)
    assert json.loads(document["properties"]["skipfold.flavour"]) == "rtx"


def test_sources_are_the_graphs_made_for_tensorrt() -> None:
    assert GPU_GRAPHS == {
        "fp32": MODEL,
        "fp16": MODEL_FP16,
        "bf16": MODEL_BF16,
        "int8": MODEL_INT8_GPU,
        "fp8": MODEL_FP8_GPU,
    }
    assert GRAPHS_OF_BUILDERS["tensorrt"] is GPU_GRAPHS
    assert GRAPHS == {**GPU_GRAPHS, "int8": MODEL_INT8_RTX, "fp8": MODEL_FP8_RTX}


@needs_rtx
def test_layers_stand_beside_the_engine_and_are_summed_in_the_sidecar(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "int8", ("sm89",))
    _, _, listed = files_of_engine(name)
    card = card_of_engine(preact_run.verified(name))
    document = json.loads(preact_run.verified(listed).read_text())
    layers = layers_of_engine(preact_run.path / name)
    assert {layer.profile for layer in layers} == {0, 1}
    assert [(entry.batch, entry.profile) for entry in card.traffic] == [(1, 0), (32, 1)]
    for entry in card.traffic:
        kernels = [layer for layer in layers if layer.profile == entry.profile and layer.is_kernel]
        told = [
            row["bytes"][str(entry.batch)] for row in document["layers"] if row["profile"] == entry.profile
        ]
        assert entry.kernels == len(kernels) >= 13
        assert sum(row["read"] + row["written"] for row in told) == pytest.approx(
            1e6 * entry.moved_mb, rel=1e-3
        )
    assert 20 * card.traffic[0].moved_mb < card.traffic[1].moved_mb < 32 * card.traffic[0].moved_mb
    types = list(document["convolutions"].values())
    assert (types.count("int8"), types.count("float16"), len(types)) == (5, 4, 9)


@needs_rtx
def test_warnings_are_kept_once_each_with_their_number(preact_run: RunDirectory) -> None:
    # The graphs for TensorRT for RTX bring no warning, and those for TensorRT do.
    graph = graph_in(preact_run, MODEL_INT8_GPU)
    set_card(graph, flavour="rtx")
    publish(preact_run, MODEL_INT8_RTX, graph)
    name, _ = _build(preact_run, "int8")
    warnings = card_of_engine(preact_run.verified(name)).warnings
    # Nine convolutions in two profiles, each with a scale of the data and scales of the weights.
    assert sorted(warnings.items()) == [
        ("(foreignNode) Converting conv activation scales to fp32.", 18),
        ("(foreignNode) Converting conv weight scales to fp32.", 18),
    ]


@needs_rtx
@pytest.mark.parametrize("targets", [("sm75",), ("sm75", "sm86", "sm89")])
def test_int8_for_turing_is_refused_before_the_build(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...]
) -> None:
    monkeypatch.setattr(runtimes.tensorrt.engine_from_onnx, "plan_from_onnx", pytest.fail)
    with pytest.raises(
        UserError, match=r"sm75 has no int8 for TensorRT for RTX; .* would run in float16"
    ) as refusal:
        _build(preact_run, "int8", targets)
    assert "build sm75" in refusal.value.fix and "in fp16" in refusal.value.fix


@needs_rtx
def test_options_of_the_build_make_an_engine_out_of_date(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp16")
    one = PlanOptions(profiles=(Profile(1, 4, 16),))
    assert engine_from_onnx(preact_run, "fp16", (), "rtx", options=one) == (name, True)
    card = card_of_engine(preact_run.verified(name))
    assert card.batches == (Profile(1, 4, 16),)
    assert [(entry.batch, entry.profile) for entry in card.traffic] == [(1, 0)]
    assert engine_from_onnx(preact_run, "fp16", (), "rtx", options=one) == (name, False)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (PlanOptions(strip=True), "--strip cannot be used: TensorRT for RTX needs a GPU"),
        (PlanOptions(refit=True), "--refit cannot be used: TensorRT for RTX needs a GPU"),
        (PlanOptions(timing_cache=Path("timing.cache")), "--timing-cache cannot be used"),
    ],
)
def test_options_that_rtx_does_not_have_are_refused(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, options: PlanOptions, named: str
) -> None:
    set_gpus(monkeypatch)
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt-rtx": "1.7"}.get)
    with pytest.raises(UserError, match=named):
        engine_from_onnx(preact_run, "fp16", (), "rtx", options=options)


def _pretend_plan(
    monkeypatch: pytest.MonkeyPatch, plan: BuiltPlan, started: threading.Event | None = None
) -> list[str]:
    """Build nothing; the names of the graphs that were to be built."""
    built = []

    def pretend(graph: Path, *others: object) -> BuiltPlan:
        built.append(graph.name)
        if started is not None:
            started.set()
        return plan

    monkeypatch.setattr(runtimes.tensorrt.engine_from_onnx, "plan_from_onnx", pretend)
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt-rtx": "1.7"}.get)
    return built


def test_an_engine_without_evidence_claims_nothing(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend_plan(monkeypatch, BuiltPlan(b"plan", Evidence(NONE, reason="the log lists no layers"), {}))
    name, _ = engine_from_onnx(preact_run, "fp16", (), "rtx")
    card = card_of_engine(preact_run.verified(name))
    assert (card.proof, card.convolutions, card.traffic) == ("none", {}, ())
    assert card.proof_sentence == "none, because the log lists no layers"
    assert card.convolution_words == "types of the convolutions not proved"
    assert layers_of_engine(preact_run.path / name) == ()


def test_a_second_process_waits_and_finds_the_engine_up_to_date(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = _pretend_plan(monkeypatch, BuiltPlan(b"plan", Evidence(NONE, reason="nothing"), {}))
    other = RunDirectory(preact_run.path)
    results: list[tuple[str, bool]] = []
    said: list[object] = []

    def progress(items: Iterable[Item], description: object, total: int | None = None) -> Iterator[Item]:
        said.append(description)
        return iter(items)

    def build_second() -> None:
        results.append(engine_from_onnx(other, "fp16", (), "rtx", progress=progress))

    second = threading.Thread(target=build_second)
    with preact_run.alone("build"):
        second.start()
        second.join(0.3)
        assert second.is_alive() and not built
        # What the first process writes before it leaves.
        first = RunDirectory(preact_run.path)
        monkeypatch.setattr(first, "alone", _open)
        monkeypatch.setattr(first, "is_under_way", lambda stage: False)
        name, done = engine_from_onnx(first, "fp16", (), "rtx")
    second.join(30)
    assert (results, built) == ([(name, False)], [MODEL_FP16])
    assert done and other.verified(name)
    assert said == [f"waiting for another build in {other.path}"]


@contextmanager
def _open(stage: str, wait: bool) -> Iterator[None]:
    yield


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_a_truncated_or_altered_engine_is_built_again(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, spoilt: int
) -> None:
    built = _pretend_plan(monkeypatch, BuiltPlan(b"a plan", Evidence(NONE, reason="nothing"), {}))
    name, _ = engine_from_onnx(preact_run, "fp16", (), "rtx")
    path = preact_run.path / files_of_engine(name)[spoilt]
    path.write_bytes(path.read_bytes()[:-1])
    assert engine_from_onnx(preact_run, "fp16", (), "rtx") == (name, True)
    assert len(built) == 2
    assert preact_run.verified(name).read_bytes() == b"a plan"


def test_an_interrupted_build_leaves_nothing(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> BuiltPlan:
        raise KeyboardInterrupt

    _pretend_plan(monkeypatch, BuiltPlan(b"plan", Evidence(NONE, reason="nothing"), {}))
    name, _ = engine_from_onnx(preact_run, "fp16", (), "rtx")
    before = {path: path.read_bytes() for path in (preact_run.path / "engines").iterdir()}
    monkeypatch.setattr(runtimes.tensorrt.engine_from_onnx, "plan_from_onnx", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(preact_run, "fp16", (), "rtx", force=True)
    assert {path: path.read_bytes() for path in (preact_run.path / "engines").iterdir()} == before
    assert engine_from_onnx(preact_run, "fp16", (), "rtx") == (name, False)
