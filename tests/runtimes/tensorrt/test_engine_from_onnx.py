"""The build stage: which engine it writes, when it writes one, and what it refuses."""

import pytest
from built_engines import RTX, TYPES, build_with_rtx, convolutions_in, needs_rtx
from fault_injection import graph_in, publish
from pretended_gpus import set_gpus

import runtimes.tensorrt.package
from artifacts.names import MODEL, MODEL_BF16, MODEL_FP8_GPU, MODEL_FP16, MODEL_INT8_CPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from errors import CheckFailed, UserError
from graphs.onnx_file import card_from_file
from machine.gpu import Gpu
from runtimes.engines import GPU_GRAPHS
from runtimes.tensorrt.engine_card import card_of_engine, engine_name
from runtimes.tensorrt.engine_from_onnx import (
    BATCHES,
    engine_from_onnx,
)

# TensorRT for RTX builds for four GPUs by default, and two of these compute in FP8.
TARGETS = {precision: ("sm89", "sm120") if precision == "fp8" else () for precision in TYPES}


def _types(precision: str, convolutions: int) -> dict[str, int]:
    """Return the expected counts: all convolutions have one type, but FP8 leaves the stem in float16."""
    if precision == "fp8":
        return {"float16": 1, "float8": convolutions - 1}
    return {TYPES[precision]: convolutions}


@needs_rtx
@pytest.mark.parametrize("precision", GPU_GRAPHS)
def test_engine_of_each_precision_is_built_without_a_gpu(
    run: RunDirectory, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpus(monkeypatch)
    graph = run.verified(GPU_GRAPHS[precision])
    name, done = build_with_rtx(run, precision)
    assert (name, done) == (engine_name(precision, RTX, TARGETS[precision]), True)
    plan = run.verified(name)
    card = card_of_engine(run.verified(name.replace(".engine", ".json")).with_suffix(".engine"))
    assert (card.builder, card.version) == ("rtx", version_of("tensorrt-rtx"))
    assert (card.precision, card.targets, card.batches) == (precision, TARGETS[precision], BATCHES)
    assert card.convolutions == _types(precision, convolutions_in(graph))
    assert card.source == run.record(graph.name).sha256
    assert card.plan == run.record(name).sha256
    assert card.size == plan.stat().st_size > 10_000
    assert 0 < card.seconds < 60
    assert card.graph == card_from_file(graph)


@needs_rtx
def test_engine_that_is_up_to_date_is_kept(preact_run: RunDirectory) -> None:
    name, _ = build_with_rtx(preact_run, "fp32")
    written = preact_run.verified(name).stat().st_mtime_ns
    assert build_with_rtx(preact_run, "fp32") == (name, False)
    assert preact_run.verified(name).stat().st_mtime_ns == written
    assert build_with_rtx(preact_run, "fp32", force=True) == (name, True)


@needs_rtx
def test_engine_of_a_changed_graph_is_built_again(preact_run: RunDirectory) -> None:
    name, _ = build_with_rtx(preact_run, "fp32")
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert build_with_rtx(preact_run, "fp32") == (name, True)
    assert card_of_engine(preact_run.verified(name)).source == preact_run.record(MODEL).sha256


@needs_rtx
def test_order_and_repetition_of_targets_make_no_other_engine(preact_run: RunDirectory) -> None:
    name, done = build_with_rtx(preact_run, "fp16", ("sm89", "sm86"))
    assert (name, done) == ("engines/fp16.rtx-sm86-sm89.engine", True)
    assert card_of_engine(preact_run.verified(name)).targets == ("sm86", "sm89")
    for same in (("sm86", "sm89"), ("sm89", "sm86", "sm89")):
        assert build_with_rtx(preact_run, "fp16", same) == (name, False)


@needs_rtx
def test_targets_are_ordered_by_their_numbers(preact_run: RunDirectory) -> None:
    name, _ = build_with_rtx(preact_run, "fp32", ("sm120", "sm89"))
    assert name == "engines/fp32.rtx-sm89-sm120.engine"


@needs_rtx
@pytest.mark.parametrize("target", ["sm90", "89", "SM89", "sm", "ampere", "current"])
def test_unknown_target_is_refused_and_the_known_are_listed(preact_run: RunDirectory, target: str) -> None:
    with pytest.raises(UserError, match=f"unknown --target '{target}'") as refusal:
        build_with_rtx(preact_run, "fp32", ("sm89", target))
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
    ],
)
def test_graph_made_for_something_else_is_refused(
    preact_run: RunDirectory, precision: str, source: str
) -> None:
    publish(preact_run, GPU_GRAPHS[precision], graph_in(preact_run, source))
    with pytest.raises(
        UserError, match=f"TensorRT was asked for {precision} of flavour any or gpu"
    ) as refusal:
        build_with_rtx(preact_run, precision)
    assert not isinstance(refusal.value, CheckFailed)


@needs_rtx
@pytest.mark.parametrize("target", ["sm89", "sm120"])
def test_fp8_engine_is_built_for_one_target(preact_run: RunDirectory, target: str) -> None:
    assert build_with_rtx(preact_run, "fp8", (target,)) == (f"engines/fp8.rtx-{target}.engine", True)


def test_sources_are_the_graphs_made_for_tensorrt() -> None:
    assert GPU_GRAPHS == {
        "fp32": MODEL,
        "fp16": MODEL_FP16,
        "bf16": MODEL_BF16,
        "int8": MODEL_INT8_GPU,
        "fp8": MODEL_FP8_GPU,
    }
