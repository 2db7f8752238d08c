import json
from typing import Any

import pytest
from fault_injection import graph_in, publish

from artifacts.names import BENCHMARK, CHECKPOINT, MODEL
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from machine.description import this_machine
from runtimes import timing
from runtimes.subjects import subject_in
from verification import latency
from verification.latency import BATCH_SIZES, benchmark_from_artifacts


class Clock:
    """In place of an open runtime whose calls take a known time on each device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_: object) -> None: ...

    def describe(self) -> dict[str, str]:
        return {"device": self.device}


def test_engines_are_compared_with_pytorch_on_their_own_device(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch takes 2 ms on the GPU and 30 ms on the CPU; a ratio across the two would say nothing."""
    milliseconds = {
        ("torch", "cuda"): 2.0,
        ("ort", "cuda"): 1.0,
        ("torch", "cpu"): 30.0,
        ("ort", "cpu"): 10.0,
    }
    monkeypatch.setattr(latency, "open_subject", lambda run, subject, *_: Clock(subject.device))
    monkeypatch.setattr(
        latency,
        "latencies",
        lambda opened, images, batch, *_: {
            subject: timing.summary([milliseconds[subject.engine, subject.device] / 1000] * 2, batch)
            for subject in opened
        },
    )
    subjects = [subject_in(preact_run, "ort", "fp32", device) for device in ("cuda", "cpu")]
    rows, _ = benchmark_from_artifacts(preact_run, digits, subjects, seconds=0.001)
    found = {
        (row["engine"], row["device"]): (row["speedup"], row["over"]) for row in rows if row["batch"] == 1
    }
    assert found == {
        ("torch", "cuda"): (1.0, "torch on cuda"),
        ("ort", "cuda"): (2.0, "torch on cuda"),
        ("torch", "cpu"): (1.0, "torch on cpu"),
        ("ort", "cpu"): (3.0, "torch on cpu"),
    }
    for devices in (["cuda"], ["cpu"]):
        chosen = [subject for subject in subjects if subject.device in devices]
        rows, _ = benchmark_from_artifacts(preact_run, digits, chosen, seconds=0.001)
        assert {row["device"] for row in rows} == set(devices)


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
