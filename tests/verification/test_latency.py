"""benchmark.json: its rows on a made-up clock, and when it is up to date."""

import json
from typing import Any

import pytest
from fault_injection import graph_in, publish
from stub_runtimes import Stubs, stubbed

from artifacts.names import BENCHMARK, CHECKPOINT, MODEL
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed, UserError
from machine.description import this_machine
from runtimes import timing
from runtimes.subjects import subject_in
from verification.latency import BATCH_SIZES, Benchmark, benchmark_from_artifacts
from verification.rows import Row

PACE: dict[tuple[str, str, str], Any] = {
    ("torch", "fp32", "cpu"): 30.0,
    ("torch", "bf16", "cpu"): 20.0,
    ("torch-compile", "fp32", "cpu"): 15.0,
    ("ort", "fp32", "cpu"): 10.0,
    ("ort", "int8", "cpu"): 5.0,
    ("torch", "fp32", "cuda"): 2.0,
    ("torch", "fp16", "cuda"): 1.0,
    ("ort", "fp32", "cuda"): 1.0,
}


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Stubs:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    return stubbed(monkeypatch, PACE)


def _benchmark(run: RunDirectory, dataset: Dataset, *named: tuple[str, ...], **options: Any) -> Benchmark:
    subjects = [subject_in(run, *name) for name in named]
    options = {"threads": 1, "seconds": 0.001, "batches": (1, 4)} | options
    return benchmark_from_artifacts(run, dataset, subjects, **options)


def _by_identity(rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    found = {(row["engine"], row["precision"], row["device"], row["batch"]): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.usefixtures("stubs")
def test_engines_are_compared_with_pytorch_on_their_own_device(
    preact_run: RunDirectory, digits: Dataset
) -> None:
    """PyTorch takes 2 ms on the GPU and 30 ms on the CPU; a ratio across the two would say nothing."""
    both = [("ort", "fp32", device) for device in ("cuda", "cpu")]
    rows = _benchmark(preact_run, digits, *both, batches=(1,)).rows
    found = {(row["engine"], row["device"]): (row["speedup"], row["over"]) for row in rows}
    assert found == {
        ("torch", "cuda"): (1.0, "torch fp32 on cuda"),
        ("ort", "cuda"): (pytest.approx(2), "torch fp32 on cuda"),
        ("torch", "cpu"): (1.0, "torch fp32 on cpu"),
        ("ort", "cpu"): (pytest.approx(3), "torch fp32 on cpu"),
    }
    for device in ("cuda", "cpu"):
        rows = _benchmark(preact_run, digits, ("ort", "fp32", device)).rows
        assert {row["device"] for row in rows} == {device}


@pytest.mark.usefixtures("stubs")
def test_best_form_of_pytorch_is_named_and_compared_with(preact_run: RunDirectory, digits: Dataset) -> None:
    named = [("torch", "bf16"), ("torch-compile", "fp32"), ("ort", "fp32"), ("torch", "fp16", "cuda")]
    rows = _by_identity(_benchmark(preact_run, digits, *named, batches=(4,)).rows)
    found = {key[:3]: (row["best_pytorch"], row["over_best"]) for key, row in rows.items()}
    compiled = "torch-compile fp32 on cpu"
    assert found == {
        ("torch", "fp32", "cpu"): (compiled, pytest.approx(0.5)),
        ("torch", "bf16", "cpu"): (compiled, pytest.approx(0.75)),
        ("torch-compile", "fp32", "cpu"): (compiled, pytest.approx(1)),
        ("ort", "fp32", "cpu"): (compiled, pytest.approx(1.5)),
        ("torch", "fp32", "cuda"): ("torch fp16 on cuda", pytest.approx(0.5)),
        ("torch", "fp16", "cuda"): ("torch fp16 on cuda", pytest.approx(1)),
    }


def test_intervals_stand_beside_the_ratios(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine takes 1 ms in its first turn and 2 ms in the second; PyTorch takes 4 ms throughout."""
    monkeypatch.setattr(timing, "ROUNDS", 2)
    # One first call, three to warm up, and in each turn one that is not timed and two that are.
    pace = {"milliseconds": lambda call: 1.0 if call < 4 + 3 else 2.0}
    stubbed(monkeypatch, {("torch", "fp32", "cpu"): 4.0, ("ort", "fp32", "cpu"): pace})
    rows = _benchmark(preact_run, digits, ("ort", "fp32"), batches=(1,), seconds=0.0).rows
    row = _by_identity(rows)["ort", "fp32", "cpu", 1]
    assert row["rounds_ms"] == pytest.approx([1, 2])
    assert row["speedup"] == pytest.approx(4 / 1.5)
    assert row["speedup_interval"] == row["over_best_interval"] == pytest.approx([2, 4])


@pytest.mark.usefixtures("stubs")
def test_rows_say_what_was_measured_on_which_files(preact_run: RunDirectory, digits: Dataset) -> None:
    run = preact_run
    benchmark = _benchmark(run, digits, ("ort", "int8"))
    assert benchmark.done and benchmark.refusals == []
    rows = _by_identity(benchmark.rows)
    assert set(rows) == {
        (engine, precision, "cpu", batch)
        for engine, precision in (("torch", "fp32"), ("ort", "int8"))
        for batch in (1, 4)
    }
    row = rows["ort", "int8", "cpu", 4]
    assert row["status"] == "measured"
    assert row["images_per_s"] == pytest.approx(200)
    assert row["calls"] == 4
    assert row["artifact_sha256"] == run.record(row["artifact"]).sha256
    # The description is made behind all calls, so that it tells of each batch size.
    assert row["runtime"] == {"version": "stub", "device": "cpu", "sizes": [1, 4]}
    assert (row["device_ms"], row["device_mb"], row["gpu"]) == (None, None, None)
    assert set(row["host_mb"]) == {"load", "first"}
    assert rows["torch", "fp32", "cpu", 1]["artifact"] == CHECKPOINT
    document = json.loads(run.verified(BENCHMARK).read_text())
    assert document == {
        "machine": this_machine().to_json(),
        "threads": 1,
        "cuda_graphs": True,
        "rows": benchmark.rows,
        "not_run": [],
    }


def test_engine_that_does_not_run_is_a_refusal_in_the_file_and_is_tried_again(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    broken = {"milliseconds": 5.0, "fails_to_open": UserError("no such provider", "install it")}
    stubbed(monkeypatch, PACE | {("ort", "int8", "cpu"): broken})
    both = [("ort", "int8"), ("ort", "fp32")]
    first = _benchmark(preact_run, digits, *both)
    assert {(row["engine"], row["precision"]) for row in first.rows} == {("torch", "fp32"), ("ort", "fp32")}
    (refusal,) = first.refusals
    assert (refusal.engine, refusal.precision, refusal.status) == ("ort", "int8", "not run")
    stored = json.loads(preact_run.verified(BENCHMARK).read_text())
    assert stored["not_run"] == [refusal.to_row()]
    assert {row["status"] for row in stored["rows"]} == {"measured"}
    assert _benchmark(preact_run, digits, *both).done
    stubbed(monkeypatch, PACE)
    mended = _benchmark(preact_run, digits, *both)
    assert mended.done and mended.refusals == [] and len(mended.rows) == 6
    assert not _benchmark(preact_run, digits, *both).done


@pytest.mark.parametrize("kind", [UserError, CheckFailed])
@pytest.mark.parametrize("where", ["fails_to_open", "fails_at"])
def test_nothing_that_was_asked_for_runs(
    preact_run: RunDirectory,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[UserError],
    where: str,
) -> None:
    """The original alone is no answer, and nothing is written."""
    monkeypatch.setattr(timing, "ROUNDS", 2)
    error = kind("no compiler", "install one")
    broken = {"milliseconds": 5.0, where: error if where == "fails_to_open" else {1: error, 4: error}}
    stubbed(monkeypatch, PACE | {("torch-compile", "fp32", "cpu"): broken})
    with pytest.raises(UserError, match="no compiler: install one") as refusal:
        _benchmark(preact_run, digits, ("torch-compile", "fp32"))
    assert type(refusal.value) is kind
    assert BENCHMARK not in RunDirectory(preact_run.path)


def test_engine_without_pytorch_on_its_device_has_no_ratio(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    missing = {"milliseconds": 1.0, "fails_to_open": UserError("PyTorch sees no CUDA device", "…")}
    stubbed(monkeypatch, PACE | {("torch", "fp32", "cuda"): missing})
    (row,) = _benchmark(preact_run, digits, ("ort", "fp32", "cuda"), batches=(1,)).rows
    names = ("speedup", "speedup_interval", "over", "best_pytorch", "over_best", "over_best_interval")
    assert [row[name] for name in names] == [None] * 6
    assert row["p50_ms"] == pytest.approx(1)


@pytest.mark.usefixtures("stubs")
def test_benchmark_is_up_to_date_until_something_changes(preact_run: RunDirectory, digits: Dataset) -> None:
    def again(**options: Any) -> bool:
        return _benchmark(preact_run, digits, ("ort", "fp32"), **options).done

    rows = _benchmark(preact_run, digits, ("ort", "fp32")).rows
    assert _benchmark(preact_run, digits, ("ort", "fp32")) == Benchmark(rows, [], False)
    for change in ({"seconds": 0.002}, {"threads": 2}, {"batches": (1,)}, {"cuda_graphs": False}):
        assert again(**change), change
        assert not again(**change), change
    assert again(cuda_graphs=False, force=True)
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert again(cuda_graphs=False)


@pytest.mark.usefixtures("stubs")
def test_rows_of_other_batch_sizes_are_kept_and_not_handed_out(
    preact_run: RunDirectory, digits: Dataset
) -> None:
    first = _benchmark(preact_run, digits, ("ort", "fp32"), batches=(1, 4)).rows
    second = _benchmark(preact_run, digits, ("ort", "fp32"), batches=(4, 16, 4)).rows
    assert [row["batch"] for row in second] == [4, 4, 16, 16]
    assert _benchmark(preact_run, digits, ("ort", "fp32"), batches=(4, 16)) == Benchmark(second, [], False)
    stored = json.loads(preact_run.verified(BENCHMARK).read_text())["rows"]
    assert stored == [row for row in first if row["batch"] == 1] + second


@pytest.mark.usefixtures("stubs")
def test_benchmark_of_one_engine_keeps_the_rows_of_others(preact_run: RunDirectory, digits: Dataset) -> None:
    first = _benchmark(preact_run, digits, ("ort", "int8")).rows
    second = _benchmark(preact_run, digits, ("ort", "fp32")).rows
    kept = [row for row in first if row["engine"] != "torch"]
    assert json.loads(preact_run.verified(BENCHMARK).read_text())["rows"] == kept + second
    assert _benchmark(preact_run, digits, ("ort", "fp32")) == Benchmark(second, [], False)


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("other", [{"threads": 2}, {"cuda_graphs": False}])
def test_rows_of_other_threads_or_cuda_graphs_are_not_kept(
    preact_run: RunDirectory, digits: Dataset, other: dict[str, Any]
) -> None:
    """A plot would join them with lines to rows that they cannot be compared with."""
    _benchmark(preact_run, digits, ("ort", "int8"))
    second = _benchmark(preact_run, digits, ("ort", "fp32"), **other).rows
    assert json.loads(preact_run.verified(BENCHMARK).read_text())["rows"] == second


@pytest.mark.usefixtures("stubs")
def test_the_original_alone_is_measured_once(preact_run: RunDirectory, digits: Dataset) -> None:
    rows = _benchmark(preact_run, digits, ("torch", "fp32")).rows
    assert [row["batch"] for row in rows] == [1, 4]
    assert {row["speedup"] for row in rows} == {1}


def test_real_engines_leave_real_figures(
    run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    named = [("ort", "fp32"), ("ort", "int8"), ("openvino", "int8")]
    rows = _by_identity(_benchmark(run, digits, *named, batches=BATCH_SIZES).rows)
    for (engine, _, _, batch), row in rows.items():
        original = rows["torch", "fp32", "cpu", batch]
        assert row["speedup"] == original["p50_ms"] / row["p50_ms"]
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["images_per_s"] == pytest.approx(1000 * batch / row["p50_ms"])
        assert row["calls"] >= 4
        assert row["load_ms"] > 0 and row["first_ms"] > 0
        assert row["runtime"]["version"] and row["runtime"]["threads"] == 1
        if engine == "torch":
            assert (row["artifact"], row["speedup"]) == (CHECKPOINT, 1)
