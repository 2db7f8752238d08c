"""The search for the best INT8 graphs, on figures that the tests make up.

Longer than 300 lines because all tests share one scripted contest, in which each figure decides something.
"""

import json
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from sample_networks import node_named, run_graph

from artifacts.json_codec import to_json
from artifacts.names import MODEL, SEARCH
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan, plan_in, quantized_from_graph
from calibration.quantizing.scheme import Scheme
from calibration.ranges.calibration_set import HELD_OUT_IMAGES, held_out_images
from calibration.ranges.methods import Method
from calibration.searching import search as search_module
from calibration.searching.contest import Timed
from calibration.searching.search import (
    chosen_plan,
    reparametrizations,
    search,
    search_from_graph,
)
from calibration.searching.trials import Candidate, Trials
from data.dataset import Dataset, image_hashes
from errors import UserError
from graphs.onnx_file import card_of_graph, constant, graph_from_file, replace_constant
from runtimes.openvino_runtime import OpenVinoRuntime

Times = Callable[[Candidate], float]
HURT = "stage2.0"


@pytest.fixture(autouse=True)
def few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "METHODS", (Method("minmax"), Method("percentile", 99.99)))


def contest(int8: Times, float_ms: float = 2) -> Callable[[list[Candidate]], list[Timed]]:
    """A clock of our own: ort takes what it is told, openvino twice as long."""

    def timed(candidates: list[Candidate]) -> list[Timed]:
        entries: list[tuple[Candidate | None, float]] = [(c, int8(c)) for c in candidates]
        entries.append((None, float_ms))
        return [
            Timed(engine, own, {1: factor * ms, 32: 20 * factor * ms})
            for own, ms in entries
            for engine, factor in (("ort", 1), ("openvino", 2))
        ]

    return timed


def trials_of(path: Path, dataset: Dataset, change: Callable[[ir.Model], None] | None = None) -> Trials:
    model = graph_from_file(path / MODEL)
    if change is not None:
        change(model)
    return Trials(model, card_of_graph(model, MODEL), dataset)


@pytest.fixture(scope="module")
def trials(trained_runs: dict[str, Path], digits: Dataset) -> Trials:
    """Shared by the tests: what one has measured the next need not."""
    return trials_of(trained_runs["preact"], digits)


@pytest.fixture(scope="module")
def seeded(trained_runs: dict[str, Path], digits: Dataset) -> Trials:
    return trials_of(trained_runs["preact"], digits, seed_outlier)


def seed_outlier(model: ir.Model) -> None:
    """One channel inside a block's branch a thousand times as large; the network stays the same."""
    first, second = (node_named(model, f"{HURT}.residual.conv{n}") for n in (1, 2))
    factors = np.ones(len(constant(first.inputs[1])))
    factors[np.abs(constant(first.inputs[1])).sum((1, 2, 3)).argmax()] = 1000
    for index in (1, 2):
        array = constant(first.inputs[index])
        replace_constant(first.inputs[index], array * factors.reshape(-1, *[1] * (array.ndim - 1)))
    replace_constant(second.inputs[1], constant(second.inputs[1]) / factors[:, None, None])


def test_block_that_hurts_is_the_one_left_in_float(trials: Trials, seeded: Trials) -> None:
    (before,) = run_graph(trials.model, trials.held_out)
    (after,) = run_graph(seeded.model, trials.held_out)
    np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-3)
    found = search(seeded, Plan(), 1, contest(lambda _: 1))
    assert found.choice.float_blocks == (f"{HURT}.add",)
    assert max(found.gains_db, key=found.gains_db.__getitem__) == f"{HURT}.add"
    assert found.chosen["cpu"].drop <= 1
    assert found.chosen["gpu"].float_blocks == (f"{HURT}.add",)
    assert found.recommendation.int8_pays
    without = [row for row in found.candidates if row.drop is not None and not row.float_blocks]
    assert without
    assert all(row.drop > 1 for row in without if row.flavour == "cpu")


def test_where_nothing_hurts_nothing_is_left_in_float(trained_runs: dict[str, Path], digits: Dataset) -> None:
    found = search(trials_of(trained_runs["original"], digits), Plan(), 5, contest(lambda _: 1))
    assert found.choice.float_blocks == ()
    assert found.gains_db == {}
    assert found.recommendation.int8_pays
    assert found.recommendation.engine == "ort"
    assert "2.00× as fast" in found.recommendation.reason


def test_every_reparametrization_and_method_is_a_candidate(trials: Trials) -> None:
    found = search(trials, Plan(), 5, contest(lambda _: 1))
    on_cpu = [row for row in found.candidates if (row.flavour, row.stream) == ("cpu", "int8")]
    names = {"none", "absorb", "absorb+equalize", "centre+equalize"}
    methods = {str(method) for method in search_module.METHODS}
    assert {(r.reparametrization, r.method) for r in on_cpu} == {(n, m) for n in names for m in methods}
    shapes = [row for row in found.candidates if row.latency_ms]
    assert 1 <= sum(row.flavour == "cpu" for row in shapes) <= 4
    engines = {"cpu": {"ort"}, "openvino": {"openvino"}}
    assert all(row.latency_ms.keys() == engines[row.flavour] for row in shapes)
    assert {(row.flavour, row.stream) for row in found.candidates} == {
        ("cpu", "int8"),
        ("cpu", "fp32"),
        ("openvino", "int8"),
        ("openvino", "fp32"),
        ("gpu", "int8"),
        ("gpu", "fp16"),
    }
    best = found.best_of_each_kind
    kinds = [(row.flavour, row.stream, row.reparametrization) for row in best]
    assert len(kinds) == len(set(kinds))
    assert [row for row in best if row.latency_ms] == shapes


def test_original_network_is_only_equalized(trained_runs: dict[str, Path]) -> None:
    by_variant = {
        variant: reparametrizations(graph_from_file(path / MODEL)) for variant, path in trained_runs.items()
    }
    assert by_variant["original"] == [(), ("equalize",)]
    assert ("centre", "equalize") in by_variant["preact"]


@pytest.mark.parametrize("stream", ["int8", "fp32"])
def test_the_fastest_that_is_accurate_enough_wins(trials: Trials, stream: str) -> None:
    times = contest(lambda c: 1.0 if c.scheme.stream == stream else 1.1)
    found = search(trials, Plan(), 100, times)
    assert found.chosen["cpu"].stream == stream
    plan = found.choice
    assert plan.stream_of("cpu") == plan.stream_of("openvino") == stream


@pytest.mark.parametrize("stream", ["int8", "fp32"])
def test_graphs_that_are_written_are_those_that_were_measured(trials: Trials, stream: str) -> None:
    """Of every runtime: what is recommended is the file, not a candidate."""
    times = contest(lambda c: 1.0 if c.scheme.stream == stream else 1.1)
    found = search(trials, Plan(), 100, times)
    schemes = {s.flavour: s for s in found.choice.schemes() if s.precision == "int8"}
    for flavour, row in found.chosen.items():
        scheme = schemes[flavour]
        assert (scheme.stream, scheme.float_blocks) == (row.stream, row.float_blocks)


OPENVINO_AHEAD = {"ort": 1.0, "openvino": 0.9}


def with_drops(trials: Trials, monkeypatch: pytest.MonkeyPatch, drops: dict[str, float]) -> Trials:
    """A copy whose graphs lose what their flavour loses."""
    trials = copy(trials)
    trials._drop = {}

    def drop(trials: Trials, candidate: Candidate) -> float:
        return trials._drop.setdefault(candidate, drops[candidate.scheme.flavour])

    monkeypatch.setattr(Trials, "drop", drop)
    return trials


def timed_by_engine(ms: dict[str, float]) -> Callable[[list[Candidate]], list[Timed]]:
    """Every INT8 graph takes what its engine takes, float twice that of ort."""
    return lambda candidates: [
        Timed(engine, own, {1: factor if own else 2.0})
        for own in [*candidates, None]
        for engine, factor in ms.items()
    ]


@pytest.mark.parametrize("inaccurate", ["cpu", "openvino"])
def test_runtime_whose_graph_loses_too_much_does_not_win(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, inaccurate: str
) -> None:
    """However fast it is: each graph is held to the limit by itself."""
    trials = with_drops(trials, monkeypatch, {"cpu": 0.0, "openvino": 0.0, "gpu": 0.0, inaccurate: 2.0})
    found = search(trials, Plan(), 0.1, timed_by_engine(OPENVINO_AHEAD))
    engine = "ort" if inaccurate == "openvino" else "openvino"
    assert found.recommendation.engine == engine
    assert found.recommendation.int8_pays
    assert "drop 0.00" in found.recommendation.reason


def test_openvino_graph_is_measured_in_openvino(trials: Trials, tmp_path: Path) -> None:
    """Whose kernels, without VNNI, saturate where an evaluation operator by operator does not."""
    candidate = Candidate((), Method("minmax"), Scheme("openvino", saturation="full"))
    trials.write(candidate, tmp_path / "candidate.onnx")
    images = trials.held_out[:50]
    with OpenVinoRuntime(tmp_path / "candidate.onnx", "int8", allow_saturation=True) as runtime:
        expected = runtime.infer(images)
    np.testing.assert_array_equal(trials._logits(candidate, images), expected)


def test_full_weights_are_refused_before_anything_is_measured(
    preact_run: RunDirectory, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "Trials", None)
    monkeypatch.setattr("runtimes.acceptance.adds_products_in_16_bits", lambda: True)
    with pytest.raises(UserError, match="a search with --saturation full has weights") as refusal:
        search_from_graph(preact_run, digits, Plan(saturation="full"))
    assert "--allow-saturation" in refusal.value.fix


def test_of_those_as_fast_the_best_in_decibels_wins(trials: Trials) -> None:
    """Within 3 % a latency decides nothing."""
    times = contest(lambda c: 1.0 if c.scheme.stream == "int8" else 1.02)
    found = search(trials, Plan(), 100, times)
    timed = [row for row in found.candidates if "ort" in row.latency_ms]
    assert found.chosen["cpu"].snr_db == max(row.snr_db for row in timed)


@pytest.mark.parametrize(("float_ms", "pays"), [(1.1, True), (1.02, False), (0.9, False)])
def test_int8_that_is_not_faster_is_not_recommended(trials: Trials, float_ms: float, pays: bool) -> None:
    found = search(trials, Plan(), 100, contest(lambda _: 1, float_ms))
    advice = found.recommendation
    assert advice.int8_pays == pays
    assert advice.precision == ("int8" if pays else "fp32")
    assert ("INT8 is not faster here" in advice.reason) == (not pays)


# Of the 140 images of the calibration split.
ONE_IMAGE = 100 / 140


@pytest.mark.parametrize(
    ("quantized", "with_block_in_float", "float_blocks"),
    [
        (-ONE_IMAGE, -ONE_IMAGE, []),
        (0, 0, []),
        (ONE_IMAGE, 0, [f"{HURT}.add"]),
        (ONE_IMAGE, ONE_IMAGE, None),
    ],
    ids=["gained", "kept", "kept with a block in float", "lost"],
)
def test_limit_of_zero_lets_no_image_be_lost(
    trials: Trials,
    monkeypatch: pytest.MonkeyPatch,
    quantized: float,
    with_block_in_float: float,
    float_blocks: list[str] | None,
) -> None:
    """`float_blocks` is None where every INT8 graph loses an image, and so float is recommended."""
    trials = copy(trials)
    trials._drop = {}

    def drop(trials: Trials, candidate: Candidate) -> float:
        helped = f"{HURT}.add" in candidate.scheme.float_blocks
        return trials._drop.setdefault(candidate, with_block_in_float if helped else quantized)

    monkeypatch.setattr(Trials, "drop", drop)
    found = search(trials, Plan(), 0, contest(lambda _: 1))
    assert found.recommendation.int8_pays == (float_blocks is not None)
    assert list(found.choice.float_blocks) == (float_blocks or [])
    assert ("within 0 points (the best: 0.71)" in found.recommendation.reason) == (float_blocks is None)


def test_where_no_block_helps_float_is_recommended(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = with_drops(trials, monkeypatch, {"cpu": 3.0, "openvino": 4.0, "gpu": 0.0})
    found = search(trials, Plan(), 0.1, contest(lambda _: 1))
    assert (found.recommendation.precision, found.recommendation.artifact) == ("fp32", MODEL)
    assert "within 0.1 points (the best: 3.00)" in found.recommendation.reason
    assert found.choice.float_blocks == ()
    assert len(found.gains_db) == 3


def test_untrained_weights_are_ranked_without_accuracy(trials: Trials) -> None:
    trials = copy(trials)
    trials.card, trials._drop = replace(trials.card, trained=False), {}
    found = search(trials, Plan(), 0, contest(lambda _: 1))
    assert not found.trained
    assert {row.drop for row in found.candidates} == {None}
    timed = [row.snr_db for row in found.candidates if "ort" in row.latency_ms]
    cpu = [row for row in found.candidates if row.flavour == "cpu" and not row.float_blocks]
    best = max(row.snr_db for row in cpu)
    assert min(timed) >= best - search_module.MARGIN_DB
    assert "not trained" in found.recommendation.reason


def test_held_out_images_are_in_no_other_split(digits: Dataset) -> None:
    chosen = image_hashes(held_out_images(digits))
    others = {*image_hashes(digits.calibration.images), *image_hashes(digits.test.images)}
    assert len(chosen) == len(set(chosen)) == HELD_OUT_IMAGES
    assert not others & set(chosen)
    train = digits.train.subset(np.arange(len(digits.train))[::-1])
    assert image_hashes(held_out_images(replace(digits, train=train))) == chosen


def test_file_is_up_to_date_until_something_changes_and_the_run_follows_it(
    preact_run: RunDirectory, digits: Dataset, trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "Trials", lambda *_: trials)
    times = contest(lambda c: 1.0 if c.scheme.stream == "fp32" else 1.5)
    monkeypatch.setattr(search_module, "timed_in_turns", lambda _, candidates, *__: times(candidates))
    base = Plan(saturation="proved")
    assert chosen_plan(preact_run) is None
    found, done = search_from_graph(preact_run, digits, base, 100)
    assert done
    assert json.loads(preact_run.verified(SEARCH).read_text()) == to_json(found)
    assert search_from_graph(preact_run, digits, base, 100) == (found, False)
    plan = chosen_plan(preact_run)
    assert plan == found.choice
    assert plan is not None
    assert (plan.cpu_stream, plan.saturation) == ("fp32", "proved")
    quantized_from_graph(preact_run, digits, plan)
    assert plan_in(preact_run) == plan
    assert search_from_graph(preact_run, digits, base, 50)[1]
    assert search_from_graph(preact_run, digits, Plan(), 50)[1]
    assert search_from_graph(preact_run, digits, Plan(), 50, force=True)[1]


def test_interrupted_search_leaves_the_run_as_it_was(
    preact_run: RunDirectory, digits: Dataset, trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "Trials", lambda *_: trials)

    def interrupted(
        trials: Trials, candidates: list[Candidate], path: object, folder: object, *_: object
    ) -> None:
        trials.write(candidates[0], folder / "candidate0.onnx")  # type: ignore[operator]
        raise KeyboardInterrupt

    monkeypatch.setattr(search_module, "timed_in_turns", interrupted)
    before = sorted(path.name for path in preact_run.path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        search_from_graph(preact_run, digits, Plan(), 100)
    after = sorted(path.name for path in preact_run.path.rglob("*") if path.name != ".lock")
    assert after == [name for name in before if name != ".lock"]
    assert SEARCH not in preact_run
