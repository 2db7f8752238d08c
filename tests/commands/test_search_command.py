from collections.abc import Callable

import pytest
from conftest import Outcome

from artifacts.names import SEARCH
from artifacts.run_directory import RunDirectory
from calibration.plan import plan_in
from calibration.ranges.methods import Method
from calibration.searching import search as search_module
from calibration.searching.contest import Timed
from calibration.searching.search import chosen_plan

Skipfold = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("command", "given", "named"),
    [
        (("calibrate", "--search"), ("--method", "mse"), "--method"),
        (("calibrate", "--search"), ("--stream", "int8", "--percentile", 99), "--percentile, --stream"),
        (("deploy", "--max-drop", 0.1), ("--reparametrize", "none"), "--reparametrize"),
    ],
)
def test_search_refuses_what_it_would_choose_itself(
    skipfold: Skipfold, command: tuple[object, ...], given: tuple[object, ...], named: str
) -> None:
    outcome = skipfold(*command, *given)
    assert outcome.status == 2
    assert f"chooses what {named} would set" in outcome.err


def test_limit_without_a_search_is_refused(skipfold: Skipfold) -> None:
    outcome = skipfold("calibrate", "--max-drop", 0.1)
    assert outcome.status == 2
    assert "add --search" in outcome.err


def test_insisting_on_saturation_without_a_search_is_refused(skipfold: Skipfold) -> None:
    outcome = skipfold("calibrate", "--allow-saturation")
    assert outcome.status == 2
    assert "add --search" in outcome.err


def test_search_is_shown_and_kept(
    skipfold: Skipfold, preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a made-up clock, by which INT8 does not pay, and on the smallest grid there is."""
    monkeypatch.setattr(search_module, "METHODS", (Method("minmax"),))
    monkeypatch.setattr(search_module, "reparametrizations", lambda model: [("absorb", "equalize")])
    monkeypatch.setattr(
        search_module,
        "timed_in_turns",
        lambda _, candidates, *__: [Timed("ort", own, {1: 1.0, 32: 9.0}) for own in [*candidates, None]],
    )
    first = skipfold("calibrate", "--search", "--max-drop", 100, "--run-dir", preact_run.path)
    assert first.status == 0
    assert "INT8 is not faster here" in first.out
    assert "use model.onnx in ort" in first.out
    again = skipfold("calibrate", "--search", "--max-drop", 100, "--run-dir", preact_run.path, "--json")
    assert again.document["search"]["recommendation"]["int8_pays"] is False
    assert "search     up to date: INT8 is not faster here" in again.err
    run = RunDirectory(preact_run.path)
    assert SEARCH in run
    assert plan_in(run) == chosen_plan(run)
    assert plan_in(run).method == Method("minmax")
