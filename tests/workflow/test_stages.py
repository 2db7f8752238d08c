"""Options to plans, and what a search chose against what the options say."""

from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.json_codec import to_text
from artifacts.names import MODEL, SEARCH
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_in
from calibration.ranges.methods import Method
from calibration.searching import search
from calibration.searching.result import Images, Recommendation, SearchResult
from errors import UserError
from runtimes.tensorrt.plan_options import PlanOptions, Profile
from vocabulary import Saturation, Stream
from workflow.choice import session_from_options
from workflow.options import BuildOptions, QuantizeOptions, RunOptions
from workflow.stages import build_options, calibrated_as_chosen, plan_from_options, refuse_beside_search

CHOSEN = Plan(method=Method("minmax"), passes=("absorb",))


def search_result(choice: Plan) -> SearchResult:
    """A made-up result; only its choice matters here."""
    advice = Recommendation("ort", "int8", MODEL, True, "made up")
    return SearchResult(True, 0.1, Images(10, 10), (), {}, {}, choice, {}, advice)


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
    assert plan_in(RunDirectory(preact_run.path)) == plan


def test_a_search_of_another_network_chooses_nothing(preact_run: RunDirectory) -> None:
    result = search_result(CHOSEN)
    with preact_run.writing(Step("search", {}, (MODEL,), (SEARCH,))) as folder:
        (folder / SEARCH).write_text(to_text(result))
    assert search.search_in(preact_run) == result
    assert search.chosen_plan(preact_run) == CHOSEN
    with preact_run.writing(Step("export", {}, (), (MODEL,))) as folder:
        (folder / MODEL).write_bytes(b"another network")
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


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (BuildOptions(), PlanOptions()),
        (BuildOptions(batches=["2:4:8"]), PlanOptions(profiles=(Profile(2, 4, 8),))),
        (BuildOptions(tf32=True), PlanOptions(tf32=True)),
        (BuildOptions(optimization_level=0), PlanOptions(optimization_level=0)),
        (BuildOptions(workspace="2K"), PlanOptions(workspace=2048)),
        (BuildOptions(timing_cache=Path("t")), PlanOptions(timing_cache=Path("t"))),
        (BuildOptions(version_compatible=True), PlanOptions(version_compatible=True)),
        (BuildOptions(hardware_compatible="same"), PlanOptions(hardware_compatible="same")),
        (BuildOptions(refit=True), PlanOptions(refit=True)),
        (BuildOptions(strip=True), PlanOptions(strip=True)),
        (BuildOptions(target="sm89"), PlanOptions()),
    ],
)
def test_each_option_decides_its_part_of_an_engine(options: BuildOptions, chosen: PlanOptions) -> None:
    assert build_options(options) == chosen


@pytest.mark.parametrize("level", [6, 100])
def test_a_level_that_tensorrt_does_not_have_is_refused(level: int) -> None:
    with pytest.raises(UserError, match=f"--optimization-level must be 0 to 5, got {level}"):
        build_options(BuildOptions(optimization_level=level))
