import json
from typing import Any

import pytest
from fault_injection import graph_in, publish

from artifacts.names import BENCHMARK, CHECKPOINT, MODEL
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from machine.description import this_machine
from runtimes import timing
from runtimes.subjects import Subject, subject_in
from verification import latency
from verification.latency import BATCH_SIZES, benchmark_from_artifacts


@pytest.mark.parametrize(
    ("devices", "expected"),
    [([], "cpu"), (["cpu"], "cpu"), (["cuda", "cpu"], "cpu"), (["cuda", "cuda"], "cuda")],
)
def test_engines_on_the_gpu_are_measured_against_pytorch_on_the_gpu(
    devices: list[str], expected: str
) -> None:
    subjects = [Subject("ort", "fp32", "a", device) for device in devices]
    assert latency._device_of_original(subjects) == expected


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(latency, "BATCH_SIZES", (1, 4))


def _benchmark(run: RunDirectory, dataset: Dataset, *named: tuple[str, str], **options: Any) -> Any:
    subjects = [subject_in(run, *name) for name in named]
    return benchmark_from_artifacts(run, dataset, subjects, **({"threads": 1, "seconds": 0.001} | options))


def test_benchmark_has_a_row_for_each_engine_and_batch_and_for_pytorch(
    run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    rows, done = _benchmark(run, digits, ("ort", "fp32"), ("ort", "int8"), ("openvino", "int8"))
    assert done
    found = {(row["engine"], row["precision"], row["batch"]): row for row in rows}
    engines = [("torch", "fp32"), ("ort", "fp32"), ("ort", "int8"), ("openvino", "int8")]
    assert set(found) == {(*engine, batch) for engine in engines for batch in BATCH_SIZES}
    assert len(rows) == len(found)
    for (engine, _, batch), row in found.items():
        original = found["torch", "fp32", batch]
        assert row["speedup"] == original["p50_ms"] / row["p50_ms"]
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["images_per_s"] == pytest.approx(1000 * batch / row["p50_ms"])
        assert row["calls"] >= 4
        assert row["artifact_sha256"] == run.record(row["artifact"]).sha256
        assert row["runtime"]["version"]
        assert row["runtime"]["threads"] == 1
        if engine == "torch":
            assert (row["artifact"], row["speedup"]) == (CHECKPOINT, 1)
    document = json.loads(run.verified(BENCHMARK).read_text())
    assert document == {"machine": this_machine().to_json(), "rows": rows}


@pytest.mark.usefixtures("quick")
def test_benchmark_is_up_to_date_until_something_changes(preact_run: RunDirectory, digits: Dataset) -> None:
    rows, _ = _benchmark(preact_run, digits, ("ort", "fp32"))
    assert _benchmark(preact_run, digits, ("ort", "fp32")) == (rows, False)
    assert _benchmark(preact_run, digits, ("ort", "fp32"), seconds=0.002)[1]
    assert _benchmark(preact_run, digits, ("ort", "fp32"), seconds=0.002, force=True)[1]
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert _benchmark(preact_run, digits, ("ort", "fp32"), seconds=0.002)[1]


@pytest.mark.usefixtures("quick")
def test_benchmark_of_one_engine_keeps_the_rows_of_others(preact_run: RunDirectory, digits: Dataset) -> None:
    first, _ = _benchmark(preact_run, digits, ("ort", "int8"))
    second, _ = _benchmark(preact_run, digits, ("ort", "fp32"))
    kept = [row for row in first if row["engine"] != "torch"]
    assert json.loads(preact_run.verified(BENCHMARK).read_text())["rows"] == kept + second
    assert _benchmark(preact_run, digits, ("ort", "fp32")) == (second, False)


@pytest.mark.usefixtures("quick")
def test_the_original_alone_is_measured_once(preact_run: RunDirectory, digits: Dataset) -> None:
    rows, _ = _benchmark(preact_run, digits, ("torch", "fp32"))
    assert [row["batch"] for row in rows] == [1, 4]
    assert {row["speedup"] for row in rows} == {1}
