"""Options to plans, and what a search chose against what the options say."""

import json
from dataclasses import replace

import pytest

from artifacts.names import SEARCH
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_of
from calibration.ranges.methods import Method
from calibration.searching import search
from errors import UserError
from vocabulary import Saturation, Stream
from workflow.choice import session_from_options
from workflow.options import QuantizeOptions, RunOptions
from workflow.stages import calibrated_as_chosen, plan_from_options, refuse_beside_search

CHOSEN = Plan(method=Method("minmax"), passes=("absorb",))


def test_no_options_are_the_default_plan() -> None:
    assert plan_from_options(QuantizeOptions()) == Plan()


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        (QuantizeOptions(method="mse"), Plan(method=Method("mse"))),
        (QuantizeOptions(percentile=99.9), Plan(method=Method("percentile", 99.9))),
        (QuantizeOptions(stream=Stream.fp32), Plan(stream="fp32")),
        (QuantizeOptions(saturation=Saturation.full), Plan(saturation="full")),
        (QuantizeOptions(reparametrize="none"), Plan(passes=())),
        (QuantizeOptions(reparametrize="equalize,centre"), Plan(passes=("centre", "equalize"))),
        (QuantizeOptions(bias_correction=False), Plan(correct_bias=False)),
    ],
)
def test_each_option_decides_its_part_of_the_plan(options: QuantizeOptions, plan: Plan) -> None:
    assert plan_from_options(options) == plan


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        (QuantizeOptions(), CHOSEN),
        # Each of these says what the default is, and saying so is a choice.
        (QuantizeOptions(method="percentile"), Plan()),
        (QuantizeOptions(percentile=99.999), Plan()),
        (QuantizeOptions(stream=Stream.int8), Plan()),
        (QuantizeOptions(saturation=Saturation.stem), Plan()),
        (QuantizeOptions(reparametrize="absorb,equalize"), Plan()),
        (QuantizeOptions(bias_correction=True), Plan()),
    ],
)
def test_what_a_search_chose_holds_until_an_option_is_given(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, options: QuantizeOptions, plan: Plan
) -> None:
    monkeypatch.setattr(search, "chosen_plan", lambda run: CHOSEN)
    calibrated_as_chosen(session_from_options(RunOptions(run_dir=preact_run.path)), options)
    assert plan_of(RunDirectory(preact_run.path)) == plan


def test_a_search_of_another_network_chooses_nothing(preact_run: RunDirectory) -> None:
    step = Step("calibrate", {}, ("model.onnx",), (SEARCH,))
    with preact_run.writing(step) as folder:
        (folder / SEARCH).write_text(json.dumps({"choice": CHOSEN.to_json()}))
    assert search.chosen_plan(preact_run) == CHOSEN
    (preact_run.path / SEARCH).write_text("{}")
    assert search.chosen_plan(RunDirectory(preact_run.path)) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (QuantizeOptions(method="percentile"), "--method"),
        (QuantizeOptions(percentile=99.0, stream=Stream.int8), "--percentile, --stream"),
        (QuantizeOptions(reparametrize="none"), "--reparametrize"),
    ],
)
def test_a_search_refuses_what_it_would_choose(options: QuantizeOptions, named: str) -> None:
    with pytest.raises(UserError, match=f"chooses what {named} would set"):
        refuse_beside_search(options)
    refuse_beside_search(replace(QuantizeOptions(), saturation=Saturation.full, bias_correction=False))
