"""The script on tiny networks that are trained once, and the page of made-up figures."""

import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.backward import BlockGradient
from analysis.forward import IdentitySum
from analysis.network import Measured
from artifacts.names import TRAINING_LOG
from artifacts.run_directory import RunDirectory
from benchmarks import depth
from benchmarks.depth import COLUMNS, Result, cells, page_of, plot, recipe, results_at
from data.dataset import Dataset
from errors import CheckFailed
from models.config import VARIANTS

ROWS = [BlockGradient(1, 1, 8.0), BlockGradient(1, 2, 2.0, 0.5, 0.25, 0.1, 0.3, 0.6)]
LOG = [
    {"epoch": 1, "loss": 2.5, "test_accuracy": 50.0, "seconds": 3.0},
    {"epoch": 2, "loss": 1.25, "test_accuracy": 75.5, "seconds": 5.0},
]


def _measured(variant: str, trained: bool) -> Measured:
    return Measured(variant, trained, 1.0, [IdentitySum(1, 1, 2, 0.5)], ROWS)


def _result(variant: str, failure: str | None = None) -> Result:
    trained = None if failure else _measured(variant, True)
    return Result(20, variant, [] if failure else LOG, _measured(variant, False), trained, failure)


def test_cells_of_made_up_figures() -> None:
    assert cells(_result("preact")) == [
        "20", "preact", "2.5, 1.25", "50.0, 75.5", "4", "8 / 2", "8 / 2", "25.0%", "30.0%",
    ]  # fmt: skip


def test_a_network_that_could_not_be_trained_says_why() -> None:
    row = cells(_result("original", "the loss is not finite at step 7 of 41"))
    assert len(row) == len(COLUMNS)
    assert row[2] == "the loss is not finite at step 7 of 41"
    assert row[5] == "8 / 2" and set(row[3:5] + row[6:]) == {"–"}


def test_the_page_names_command_machine_and_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/depth.py", "my runs", "--epochs", "2"])
    page = page_of([_result(variant) for variant in VARIANTS], Path("results/depth.svg"))
    assert "`python benchmarks/depth.py 'my runs' --epochs 2`" in page
    assert "Machine: " in page and "Versions: " in page and "(depth.svg)" in page
    assert page.count("\n| 20 | ") == 2


def test_the_plot_has_a_column_a_depth_and_survives_a_failure() -> None:
    text = plot([_result("original", "not finite"), _result("preact")])
    assert text.startswith("<svg") and text.count(">depth 20<") == 1
    assert ">preact, trained<" in text and ">original, trained<" not in text


def test_the_rate_peaks_after_an_epoch() -> None:
    rates = [recipe(20, 4).rate_at(step, 400) for step in range(400)]
    assert max(rates) == pytest.approx(0.05)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] < 1e-5


def test_a_loss_that_is_not_finite_is_a_result(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise CheckFailed("the loss is not finite at step 3 of 41", "lower it")

    monkeypatch.setattr(depth, "checkpoint_from_dataset", fail)
    results = results_at(8, tmp_path, digits, recipe(8, 1), seed=0)
    assert [(result.variant, result.trained) for result in results] == [("original", None), ("preact", None)]
    assert {result.failure for result in results} == {"the loss is not finite at step 3 of 41"}


def test_both_variants_at_depth_8_and_nothing_twice(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv",
        ["depth.py", str(tmp_path / "runs"), "--depth", "8", "--epochs", "1",
         "--table", str(tmp_path / "depth.md"), "--plot", str(tmp_path / "depth.svg")],
    )  # fmt: skip
    depth.main()
    assert (tmp_path / "depth.svg").read_text().startswith("<svg")
    page = (tmp_path / "depth.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| 8 | ")]
    assert [row[1] for row in rows] == list(VARIANTS)
    for variant in VARIANTS:
        (line,) = RunDirectory(tmp_path / "runs" / f"digits-{variant}-8").json_lines(TRAINING_LOG)
        assert 0 <= line["test_accuracy"] <= 100

    def train_again(*arguments: Any) -> None:
        raise AssertionError("an epoch was trained again")

    monkeypatch.setattr(depth, "accuracy_of", train_again)
    depth.main()
    assert (tmp_path / "depth.md").read_text() == page
