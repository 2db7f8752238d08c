import json
from dataclasses import replace
from pathlib import Path

import pytest
from fault_injection import MinuteClock, graph_in, publish, publish_engine
from made_up_tables import MACHINE, parity, subjects_in, timing, write_table

import artifacts.run_directory
import verification.rows
from artifacts.names import (
    ACCURACY,
    BENCHMARK,
    CHECKPOINT,
    CHECKPOINT_CARD,
    MODEL,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    PARITY,
)
from artifacts.run_directory import RunDirectory
from artifacts.stages import STAGES
from data.dataset import Dataset
from export.graph_from_checkpoint import graph_from_checkpoint
from machine.description import this_machine
from models.config import resnet_config
from reporting.summary import COLUMNS, Line, number, saturation_words, summary_of
from runtimes.engines import ENGINES
from runtimes.subjects import Subject, subject_in
from training.checkpoints import checkpoint_from_initialisation

LINE = Line("ort", "int8", MODEL_INT8_CPU, "cpu", 110_982, 97.2222, 0.2778, 99.444, 34.56)


def _complete(run: RunDirectory) -> None:
    """PyTorch, ONNX Runtime in two precisions and the reference, as `deploy` would leave them."""
    torch, fp32, int8, reference = subjects_in(
        run, ("torch", "fp32"), ("ort", "fp32"), ("ort", "int8"), ("reference", "int8")
    )
    about = {"images": 360, "original_accuracy": 97.5}
    rows = [
        (int8, parity(34.5, 99.5)),
        (reference, parity(12, 90, ("low", "lower"))),
        (fp32, parity(131, 100)),
    ]
    write_table(run, PARITY, *rows, **about)
    accuracy = [
        (int8, {"accuracy": 97.0, "drop": 0.5}),
        (reference, {"accuracy": 90.0, "drop": 7.5}),
        (fp32, {"accuracy": 97.5, "drop": 0.0}),
    ]
    write_table(run, ACCURACY, *accuracy, **about)
    milliseconds = {torch: (4.0, 40.0, 80.0), fp32: (1.0, 8.0, 20.0), int8: (0.5, 4.0, 16.0)}
    write_table(
        run,
        BENCHMARK,
        *[
            (subject, timing(batch, p50, original))
            for batch, index in ((1, 0), (8, 1), (32, 2))
            for subject, times in milliseconds.items()
            for p50, original in [(times[index], milliseconds[torch][index])]
        ],
    )


def test_figures_of_all_tables_meet_in_one_line(preact_run: RunDirectory) -> None:
    _complete(preact_run)
    summary = summary_of(preact_run)
    assert (summary.images, summary.machine) == (360, MACHINE)
    assert summary.card.model.variant == "preact"
    size = {name: preact_run.record(name).size for name in preact_run.recorded()}
    assert summary.lines == (
        Line(
            "torch",
            "fp32",
            CHECKPOINT,
            "cpu",
            size[CHECKPOINT] + size[CHECKPOINT_CARD],
            accuracy=97.5,
            latency_ms={1: 4.0, 32: 80.0},
            speedup={1: 1.0, 32: 1.0},
            verdict="original",
        ),
        Line(
            *("ort", "fp32", MODEL, "cpu", size[MODEL], 97.5, 0.0, 100, 131),
            latency_ms={1: 1.0, 32: 20.0},
            speedup={1: 4.0, 32: 4.0},
            verdict="pass",
        ),
        Line(
            *("ort", "int8", MODEL_INT8_CPU, "cpu", size[MODEL_INT8_CPU], 97.0, 0.5, 99.5, 34.5),
            latency_ms={1: 0.5, 32: 16.0},
            speedup={1: 8.0, 32: 5.0},
            verdict="pass",
        ),
        Line(
            *("reference", "int8", MODEL_INT8_GPU, "cpu", size[MODEL_INT8_GPU], 90.0, 7.5, 90, 12),
            verdict="FAIL: low; lower",
        ),
    )


def test_run_without_figures_has_no_lines(preact_run: RunDirectory) -> None:
    summary = summary_of(preact_run)
    assert (summary.lines, summary.images, summary.machine) == ((), None, None)


def test_what_was_only_timed_is_not_verified(preact_run: RunDirectory) -> None:
    (fp32,) = subjects_in(preact_run, ("ort", "fp32"))
    write_table(preact_run, BENCHMARK, (fp32, timing(1, 2.0, 8.0)))
    (line,) = summary_of(preact_run).lines
    assert (line.verdict, line.accuracy, line.speedup) == ("–", None, {1: 4.0})


def test_what_was_only_verified_has_no_latency(preact_run: RunDirectory) -> None:
    (fp32,) = subjects_in(preact_run, ("ort", "fp32"))
    write_table(preact_run, PARITY, (fp32, parity()), images=360, original_accuracy=97.5)
    (line,) = summary_of(preact_run).lines
    assert (line.verdict, line.latency_ms, line.speedup) == ("pass", None, None)


def test_figures_of_a_changed_artifact_are_left_out(preact_run: RunDirectory) -> None:
    _complete(preact_run)
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert [(line.engine, line.precision) for line in summary_of(preact_run).lines] == [
        ("torch", "fp32"),
        ("ort", "int8"),
        ("reference", "int8"),
    ]


def test_figures_of_an_earlier_revision_are_left_out(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever measured them counted otherwise than the code does now."""
    _complete(preact_run)
    for name in (PARITY, ACCURACY, BENCHMARK):
        stage = preact_run.record(name).stage
        monkeypatch.setitem(STAGES, stage, replace(STAGES[stage], revision=99))
    assert [line.verdict for line in summary_of(preact_run).lines if line.verdict != "not run"] == []


def test_rows_of_an_engine_that_is_no_more_are_left_out(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _complete(preact_run)
    left = {name: spec for name, spec in ENGINES.items() if name != "reference"}
    monkeypatch.setattr(verification.rows, "ENGINES", left)
    assert "reference" not in {line.engine for line in summary_of(preact_run).lines}


def test_table_that_was_changed_by_hand_is_left_out(preact_run: RunDirectory) -> None:
    _complete(preact_run)
    path = preact_run.path / ACCURACY
    path.write_text(path.read_text().replace("97.0", "99.9"))
    line = next(line for line in summary_of(preact_run).lines if line.precision == "int8")
    assert (line.accuracy, line.snr_db) == (None, 34.5)


@pytest.mark.parametrize(
    ("order", "shown"),
    [((PARITY, BENCHMARK), (None, {1: 2.0})), ((BENCHMARK, PARITY), (100.0, None))],
    ids=["timed last", "verified last"],
)
def test_figures_of_two_machines_do_not_meet(
    preact_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, str],
    shown: tuple[float | None, dict[int, float] | None],
) -> None:
    monkeypatch.setattr(artifacts.run_directory, "datetime", MinuteClock())
    (fp32,) = subjects_in(preact_run, ("ort", "fp32"))
    figures = {PARITY: parity(100.0), BENCHMARK: timing(1, 2.0, 4.0)}
    for name, cpu in zip(order, ("first", "second"), strict=True):
        about = {"images": 360, "original_accuracy": 97.5, "machine": MACHINE | {"cpu": cpu}}
        write_table(preact_run, name, (fp32, figures[name]), **about)
    summary = summary_of(preact_run)
    (line,) = summary.lines
    assert summary.machine == MACHINE | {"cpu": "second"}
    assert (line.snr_db, line.latency_ms) == shown


def test_devices_of_one_engine_are_lines_of_their_own(preact_run: RunDirectory) -> None:
    (cpu,) = subjects_in(preact_run, ("ort", "fp32"))
    cuda = replace(cpu, device="cuda")
    write_table(preact_run, BENCHMARK, (cpu, timing(1, 2.0, 4.0)), (cuda, timing(1, 0.5, 1.0)))
    lines = summary_of(preact_run).lines
    assert [(line.title, line.latency_ms) for line in lines] == [("ort", {1: 2.0}), ("ort CUDA", {1: 0.5})]


def test_engines_that_were_built_and_not_run_are_listed(preact_run: RunDirectory) -> None:
    for name in ("engines/fp32.rtx.engine", "engines/int8.rtx-sm89.engine"):
        publish_engine(preact_run, name)
    ran = Subject("trt", "fp32", "engines/fp32.rtx.engine", "cuda")
    write_table(preact_run, PARITY, (ran, parity()), images=360, original_accuracy=97.5)
    found = [(line.title, line.precision, line.verdict) for line in summary_of(preact_run).lines]
    assert found == [("trt", "fp32", "pass"), ("trt", "int8", "not run")]


def test_engine_of_a_graph_that_has_changed_is_left_out(preact_run: RunDirectory) -> None:
    publish_engine(preact_run, "engines/fp32.rtx.engine")
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert summary_of(preact_run).lines == ()


def test_of_untrained_weights_no_accuracy_is_told(tmp_path: Path, digits: Dataset) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, resnet_config("preact", 8), digits, seed=0)
    graph_from_checkpoint(run)
    torch, fp32 = subject_in(run, "torch", "fp32"), subject_in(run, "ort", "fp32")
    about = {"images": 360, "original_accuracy": 10.0}
    write_table(run, PARITY, (fp32, parity(130.0, 99)), **about)
    write_table(run, ACCURACY, (fp32, {"accuracy": 10.0, "drop": 0.0}), **about)
    write_table(run, BENCHMARK, (torch, timing(1, 2.0, 2.0)))
    for line in summary_of(run).lines:
        assert (line.accuracy, line.drop, line.agreement) == (None, None, None)
    assert [line.snr_db for line in summary_of(run).lines] == [None, 130.0]


def test_summary_is_json(preact_run: RunDirectory) -> None:
    _complete(preact_run)
    document = json.loads(json.dumps(summary_of(preact_run).to_json()))
    assert [line["verdict"] for line in document["lines"]][:2] == ["original", "pass"]
    assert document["card"]["model"]["depth"] == 8


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        (LINE, ["ort", "int8", "97.22", "0.28", "99.44", "34.6", "–", "–", "–", "–", "0.11", "–"]),
        (
            replace(LINE, device="cuda", latency_ms={1: 0.5, 32: 16}, speedup={1: 8, 32: 5}, verdict="pass"),
            [
                "ort CUDA",
                "int8",
                "97.22",
                "0.28",
                "99.44",
                "34.6",
                "0.50",
                "8.00",
                "16.00",
                "5.00",
                "0.11",
                "pass",
            ],
        ),
        (
            replace(LINE, engine="trt", device="cuda", latency_ms={32: 16}, accuracy=None),
            ["trt", "int8", "–", "0.28", "99.44", "34.6", "–", "–", "16.00", "–", "0.11", "–"],
        ),
    ],
)
def test_line_has_a_cell_for_each_column(line: Line, cells: list[str]) -> None:
    assert line.cells() == cells
    assert len(cells) == len(COLUMNS)


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(None, 2, "–"), (0, 2, "0.00"), (1.005, 1, "1.0"), (-0.26, 1, "-0.3")]
)
def test_number_or_dash(value: float | None, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_verdict_says_what_is_known_of_saturation(preact_run: RunDirectory) -> None:
    (int8,) = subjects_in(preact_run, ("ort", "int8"))
    figures = parity() | {"saturation": ["conv1", "conv2", "conv3"]}
    write_table(preact_run, PARITY, (int8, figures), images=360, original_accuracy=97.5)
    (line,) = summary_of(preact_run).lines
    assert (line.verdict, line.cells()[-1]) == ("pass", "pass, may saturate without VNNI: conv1 + 2")


@pytest.mark.parametrize(
    ("found", "words"),
    [(None, ""), ("free", "saturation-free"), (["conv"], "may saturate without VNNI: conv")],
)
def test_saturation_in_words(found: str | list[str] | None, words: str) -> None:
    assert saturation_words(found) == words


def test_figures_of_another_cpu_say_where_they_were_measured(preact_run: RunDirectory) -> None:
    _complete(preact_run)
    assert summary_of(preact_run).measured_elsewhere == "Made <Up> CPU (AVX2)"


@pytest.mark.parametrize("changed", [{"instruction_sets": ["own"]}, {"cpu": "Another"}, {"cores": 96}])
def test_another_instruction_set_is_elsewhere_and_other_cores_are_not(
    preact_run: RunDirectory, changed: dict[str, object]
) -> None:
    (fp32,) = subjects_in(preact_run, ("ort", "fp32"))
    here = this_machine().to_json()
    write_table(preact_run, BENCHMARK, (fp32, timing(1, 2.0, 4.0)), machine=here | changed)
    assert (summary_of(preact_run).measured_elsewhere is None) == ("cores" in changed)
