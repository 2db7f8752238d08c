"""`benchmark` on the command line: its tables, its documents and its exit statuses."""

from pathlib import Path
from typing import Any

import pytest
from command_line import DEPTH, Skipfold, assert_refused
from stub_runtimes import stubbed

from artifacts.names import BENCHMARK, LATENCY_PLOT
from artifacts.run_directory import RunDirectory
from errors import UserError
from machine.gpu import GpuState
from runtimes import timing
from runtimes.runtime import LayerTime

PACE: dict[tuple[str, str, str], Any] = {
    ("torch", "fp32", "cpu"): {"milliseconds": 4.0, "opening_ms": 30.0, "first_ms": 70.0},
    ("torch", "bf16", "cpu"): 2.0,
    ("torch-compile", "fp32", "cpu"): 3.0,
    ("torch-compile", "bf16", "cpu"): {
        "milliseconds": 1.0,
        "fails_to_open": UserError("no C++ compiler", "install one"),
    },
    ("ort", "fp32", "cpu"): {"milliseconds": 1.0, "layers": [LayerTime(f"n{i}", 1.0 + i) for i in range(15)]},
    ("ort", "int8", "cpu"): 0.5,
    ("torch", "fp32", "cuda"): 4.0,
    ("ort", "fp32", "cuda"): {"milliseconds": 1.0, "on_device_ms": 0.125},
}
QUICK = (*DEPTH, "--seconds", 0.01)


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr("runtimes.subjects.computes_in_bfloat16", lambda device: True)
    stubbed(monkeypatch, PACE)


def line_with(text: str, *words: str) -> list[str]:
    """The words of the first line that begins with some words."""
    return next(line.split() for line in text.splitlines() if line.split()[: len(words)] == list(words))


def test_table_fits_into_100_columns_and_names_the_best_pytorch(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commands.screen._PIPED_WIDTH", 100)
    outcome = skipfold(
        "benchmark", *QUICK, "--engine", "ort", "--engine", "torch", "--batch", 1, "--batch", 8
    )
    assert outcome.status == 0, outcome
    row = line_with(outcome.out, "ort", "int8", "8")
    assert row == ["ort", "int8", "8", "4.000", "4.000", "2000", "8.00", "8.00–8.00", "4.00"]
    assert "best of those measured on cpu: torch bf16 (batch 1), torch bf16 (batch 8)" in outcome.out
    table = [line for line in outcome.out.splitlines() if line.startswith(("torch", "ort", "engine"))]
    assert len(table) == 9
    assert max(map(len, table)) <= 100
    assert {BENCHMARK, LATENCY_PLOT} <= set(RunDirectory(preact_run.path).recorded())


@pytest.mark.usefixtures("preact_run")
def test_verbose_shows_loading_first_call_and_memory(skipfold: Skipfold) -> None:
    command = ("benchmark", *QUICK, "--engine", "torch", "--precision", "fp32", "--batch", 1, "--force")
    assert "load ms" not in skipfold(*command).out
    text = skipfold(*command, "-v").out.split("Before that")[1]
    row = line_with(text, "torch", "fp32", "1")
    assert row[3:7] == ["4", "4.000", "30", "74"]


@pytest.mark.usefixtures("preact_run")
def test_device_time_is_a_column_of_its_own_where_there_is_one(
    skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verification.contest.gpu_state", lambda index: GpuState(1755, 9000, 72.4, 55))
    command = ("benchmark", *QUICK, "--engine", "ort", "--precision", "fp32", "--batch", 2)
    assert "device ms" not in skipfold(*command).out
    on_gpu = skipfold(*command, "--device", "cuda", "-v")
    assert "device ms" in on_gpu.out
    assert line_with(on_gpu.out, "ort", "CUDA", "fp32", "2")[4:7] == ["2.000", "2.000", "0.125"]
    assert line_with(on_gpu.out, "torch", "CUDA", "fp32", "2")[6] == "–"
    assert "1755 MHz 72 W 55 °C" in on_gpu.out


@pytest.mark.usefixtures("preact_run")
def test_engine_that_does_not_run_is_a_line_and_a_row_and_exit_status_2(skipfold: Skipfold) -> None:
    command = ("benchmark", *QUICK, "--engine", "torch-compile", "--batch", 1)
    outcome = skipfold(*command)
    assert outcome.status == 2
    assert "not run    torch-compile bf16: no C++ compiler (install one)" in outcome.out
    assert "torch-compile fp32" in outcome.out
    assert "error:" not in outcome.err
    document = skipfold(*command, "--json").document
    assert [(row["engine"], row["precision"], row["status"]) for row in document["rows"]] == [
        ("torch", "fp32", "measured"),
        ("torch-compile", "fp32", "measured"),
        ("torch-compile", "bf16", "not run"),
    ]
    assert document["rows"][2]["reason"] == "no C++ compiler"


@pytest.mark.usefixtures("preact_run")
def test_nothing_that_runs_is_an_error(skipfold: Skipfold) -> None:
    outcome = skipfold("benchmark", *QUICK, "--engine", "torch-compile", "--precision", "bf16")
    assert_refused(outcome, "no C++ compiler", "install one")


@pytest.mark.parametrize(
    "words", [("--batch", 0), ("--engine", "reference"), ("--engine", "tflite"), ("--batch", "many")]
)
@pytest.mark.usefixtures("preact_run")
def test_wrong_values_are_refused(skipfold: Skipfold, words: tuple[object, ...]) -> None:
    assert skipfold("benchmark", *DEPTH, *words).status == 2


@pytest.mark.usefixtures("preact_run")
def test_comparison_with_an_earlier_benchmark(
    skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "old.json"
    command = ("benchmark", *QUICK, "--engine", "ort", "--batch", 1)
    assert skipfold(*command, "--save", file).status == 0
    same = skipfold(*command, "--compare", file)
    assert same.status == 0
    assert "regressions: 0, improvements: 0, unchanged: 2" in same.out
    stubbed(monkeypatch, PACE | {("ort", "int8", "cpu"): 0.8})
    slower = skipfold(*command, "--compare", file, "--force")
    assert slower.status == 1
    words = "ort int8 on cpu, batch 1: 8.00× (8.00–8.00) before, 5.00× (5.00–5.00) now"
    assert f"regression {words}" in slower.out
    assert "regressions: 1, improvements: 0, unchanged: 1" in slower.out
    document = skipfold(*command, "--compare", file, "--json").document
    assert [change["precision"] for change in document["changes"]["regressions"]] == ["int8"]


@pytest.mark.usefixtures("preact_run")
def test_profile_shows_the_slowest_layers_and_json_all(skipfold: Skipfold) -> None:
    command = ("benchmark", *QUICK, "--engine", "ort", "--batch", 1, "--profile")
    outcome = skipfold(*command)
    text = outcome.out.split("ort fp32 at batch 1, layer by layer")[1]
    assert line_with(text, "15.000")[-1] == "n14"
    assert "3 more (-v shows them)" in text and "n2" not in text.split("3 more")[0].split()
    assert "ort int8: this runtime tells no times of layers" in outcome.out
    assert "more (-v" not in skipfold(*command, "-v").out
    profiles = skipfold(*command, "--json").document["profiles"]
    assert [len(one["layers"] or ()) for one in profiles] == [15, 0]
