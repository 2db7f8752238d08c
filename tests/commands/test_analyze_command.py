"""`analyze` as a user meets it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from broken_networks import ReluOnTheSkip
from conftest import TINY_DEPTH, Outcome
from torch import nn

from artifacts.names import ANALYSIS, ANALYSIS_FILES
from artifacts.run_directory import RunDirectory
from models import resnet

Skipfold = Callable[..., Outcome]
QUICK = ("--images", 4)


def test_both_variants_in_a_table_and_files(skipfold: Skipfold, run: RunDirectory, tmp_path: Path) -> None:
    outcome = skipfold("analyze", "--depth", TINY_DEPTH, *QUICK)
    assert outcome.status == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines() if "initialised " in line or "trained " in line]
    trained = run.path.name.split("-")[1]
    shown = [(row[0], row[1], " ".join(row[10:])) for row in rows if row[0] in ("original", "preact")]
    expected = [("original", "initialised", "do not hold"), ("preact", "initialised", "hold")]
    expected.insert(
        1 if trained == "original" else 2,
        (trained, "trained", "hold" if trained == "preact" else "do not hold"),
    )
    assert shown == expected
    place = tmp_path / "runs" / f"digits-analysis-{TINY_DEPTH}"
    assert {*ANALYSIS_FILES} <= {path.name for path in place.iterdir()}
    again = skipfold("analyze", "--depth", TINY_DEPTH, *QUICK)
    assert "up to date" in again.out and again.status == 0


def test_json_is_the_document_and_run_dir_its_place(skipfold: Skipfold, tmp_path: Path) -> None:
    outcome = skipfold("analyze", "--depth", TINY_DEPTH, *QUICK, "--run-dir", "elsewhere", "--json")
    document = outcome.document
    assert (document.pop("command"), document.pop("run")) == ("analyze", "elsewhere")
    assert document == json.loads((tmp_path / "elsewhere" / ANALYSIS).read_text())
    assert "no trained checkpoint of original, preact" in outcome.err


def test_the_block_is_part_of_the_name_where_it_is_not_the_papers(skipfold: Skipfold, tmp_path: Path) -> None:
    outcome = skipfold("analyze", "--depth", 20, "--block", "bottleneck", *QUICK)
    assert outcome.status == 0
    assert (tmp_path / "runs" / "digits-analysis-20-bottleneck" / ANALYSIS).is_file()


def test_an_analysis_is_no_network_to_go_on_with(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    assert skipfold("analyze", "--depth", TINY_DEPTH, *QUICK).status == 0
    outcome = skipfold("verify", "--engine", "ort", "--precision", "fp32")
    assert outcome.status == 0
    assert f"{preact_run.path.name}, the newest" in outcome.out
    assert f"digits-analysis-{TINY_DEPTH}" in skipfold("analyze", *QUICK).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--depth", 21), ("21", "nearest depths")),
        (("--depth", 11), ("ResNet-11", "--depth 20")),
        (("--depth", 8, "--images", 1), ("--images 1 cannot", "--images 2 to")),
        (("--depth", 8, "--images", 100_000), ("--images 100000 cannot", "--images 2 to")),
        (("--dataset", "cifar10", "--data-dir", "nowhere"), ("nowhere",)),
    ],
)
def test_wrong_usage_gets_one_line_and_the_fix(
    skipfold: Skipfold, arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    outcome = skipfold("analyze", *arguments)
    assert outcome.status == 2
    problem, fix = outcome.err.strip().splitlines()[-2:]
    assert problem.startswith("error: ") and fix.startswith("  fix: ")
    assert all(word in outcome.err for word in words), outcome.err


def test_a_relu_on_the_skip_path_ends_with_exit_status_1(
    skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resnet, "PreActBlock", ReluOnTheSkip)
    outcome = skipfold("analyze", "--depth", TINY_DEPTH, *QUICK)
    assert outcome.status == 1
    assert "no identity" in outcome.err


def test_a_gradient_that_vanishes_is_a_row_of_the_table(
    skipfold: Skipfold, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(layer: nn.Linear) -> None:
        """Of the bias, too, which is uninitialised memory until then."""
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)

    monkeypatch.setattr(nn.Linear, "reset_parameters", zeros)
    outcome = skipfold("analyze", "--depth", TINY_DEPTH, *QUICK)
    assert outcome.status == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines() if line.startswith(("original", "preact"))]
    initialised = [row for row in rows if row[1] == "initialised"]
    assert [row[:2] + row[4:8] for row in initialised] == [
        [variant, "initialised", "0.0e+00", "0", "0", "–"] for variant in ("original", "preact")
    ]
