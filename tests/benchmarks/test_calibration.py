"""The script that compares calibrations, on a tiny trained network."""

import sys
from pathlib import Path

import pytest

from artifacts.run_directory import RunDirectory
from benchmarks import calibration
from benchmarks.calibration import COLUMNS, main
from calibration.ranges.methods import Method


def _rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| preact")]


def _run(monkeypatch: pytest.MonkeyPatch, path: Path, what: str) -> None:
    monkeypatch.setattr(sys, "argv", ["calibration.py", str(path), "--images", "60", "--compare", what])
    main()


def test_every_way_to_keep_sums_from_saturating_has_a_row(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in preact_run.path.iterdir()}
    _run(monkeypatch, preact_run.path, "saturation")
    rows = _rows(capsys.readouterr().out)
    assert {len(row) for row in rows} == {len(COLUMNS["saturation"])}
    assert [row[1:3] for row in rows] == [
        [saturation, graph] for saturation in ("stem", "proved", "full") for graph in ("cpu", "openvino")
    ]
    counts = {(row[1], row[2]): int(row[3].split(" of ")[0]) for row in rows}
    for graph in ("cpu", "openvino"):
        assert 0 == counts["proved", graph] < counts["stem", graph] < counts["full", graph]
    assert {path.name: path.read_bytes() for path in preact_run.path.iterdir()} == before


def test_every_method_has_a_row_for_each_graph(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "METHODS", [Method("minmax"), Method("mse")])
    _run(monkeypatch, preact_run.path, "methods")
    rows = _rows(capsys.readouterr().out)
    assert [tuple(row[1:4]) for row in rows] == [
        (method, *graph) for method in ("minmax", "mse") for graph in calibration.GRAPHS
    ]
    assert all(float(row[4]) > 15 for row in rows)
