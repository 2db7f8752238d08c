from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_DEPTH

import calibration.plan
from artifacts.names import (
    MANIFEST,
    MODEL,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_REPARAMETRIZED,
    MODEL_REPARAMETRIZED_BN,
    PLAN,
    RANGES,
    REPARAMETRIZATION,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from artifacts.stages import STAGES
from calibration.plan import Plan, is_quantized, plan_in, quantized_from_graph
from calibration.quantizing.qdq import FILES
from calibration.quantizing.scheme import FP8, RTX, RTX_FP8, Scheme
from calibration.ranges.methods import Method
from calibration.rewriting.reparametrize import DEFAULT_PASSES
from errors import UserError
from export.graph_from_checkpoint import graph_from_checkpoint
from graphs.onnx_file import card_from_file
from models.config import resnet_config
from training.checkpoints import checkpoint_from_initialisation

MADE = (MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, REPARAMETRIZATION, RANGES, *FILES.values())
PLANS = [
    Plan(),
    Plan(method=Method("minmax"), passes=(), saturation="proved"),
    Plan(method=Method("percentile", 99.9), stream="fp16", correct_bias=False),
    Plan(passes=("centre", "equalize"), stream="fp32", saturation="full"),
    Plan(passes=("absorb",), float_blocks=("stage3.0.add", "stage1.0.add")),
]


@pytest.fixture
def few(digits):
    """To calibrate on."""
    return replace(digits, calibration=digits.calibration.subset(np.arange(20)))


def contents(run):
    return {name: run.verified(name).read_bytes() for name in MADE}


def test_defaults():
    plan = Plan()
    assert (plan.method, plan.passes) == (Method(), DEFAULT_PASSES)
    assert (plan.stream, plan.saturation, plan.correct_bias, plan.float_blocks) == ("int8", "stem", True, ())
    assert plan.schemes() == [
        Scheme("cpu"),
        Scheme("openvino"),
        Scheme("gpu"),
        FP8,
        RTX,
        RTX_FP8,
    ]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_file_has_a_scheme_of_its_own_with_what_is_common(plan):
    schemes = plan.schemes()
    assert [(scheme.precision, scheme.flavour) for scheme in schemes] == list(FILES)
    assert {scheme.correct_bias for scheme in schemes} == {plan.correct_bias}
    assert {scheme.float_blocks for scheme in schemes} == {plan.float_blocks}
    assert {scheme.saturation for scheme in schemes if scheme.is_for_cpus} == {plan.saturation}


@pytest.mark.parametrize(
    ("stream", "streams"),
    [
        ("int8", ["int8", "int8", "int8"]),
        # CPUs compute in no half precision: their graph keeps its stream.
        ("fp16", ["int8", "int8", "fp16"]),
        ("fp32", ["fp32", "fp32", "fp32"]),
    ],
)
def test_stream_that_a_flavour_has_not_leaves_its_own(stream, streams):
    # FP8 graphs have one stream, and so have those for TensorRT for RTX.
    assert [scheme.stream for scheme in Plan(stream=stream).schemes()] == [*streams, *["fp16"] * 3]


def test_stream_that_no_flavour_has_is_refused():
    with pytest.raises(UserError, match="has no bf16 stream"):
        Plan(stream="bf16")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(), "percentile 99.999, absorb+equalize, saturation stem"),
        (PLANS[1], "minmax, as exported, saturation proved"),
        (PLANS[2], "percentile 99.9, absorb+equalize, fp16 stream, saturation stem, biases not corrected"),
        (PLANS[4], "percentile 99.999, absorb, saturation stem, 2 blocks in float"),
    ],
)
def test_in_words(plan, words):
    assert str(plan) == words


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_plan_is_read_back_from_what_it_made(preact_run, few, plan):
    passes, done = quantized_from_graph(preact_run, few, plan)
    assert done
    assert tuple(entry.name for entry in passes) == plan.passes
    reopened = RunDirectory(preact_run.path)
    assert plan_in(reopened) == plan
    assert is_quantized(reopened)
    cards = [card_from_file(preact_run.verified(name)) for name in FILES.values()]
    assert [(card.precision, card.flavour) for card in cards] == list(FILES)
    assert [card.saturation for card in cards] == [plan.saturation, plan.saturation, "", "", "", ""]
    # Of each: two convolutions and the projection of stage 3. FP8 leaves the stem too. Of the nine the
    # graphs for TensorRT for RTX quantize five and one; the one is in a block that is left.
    of_blocks = 5 if plan.float_blocks else 0
    for_rtx = [7, 7] if plan.float_blocks else [4, 8]
    assert [card.float_convolutions for card in cards] == [of_blocks] * 3 + [of_blocks + 1] + for_rtx


def test_what_is_up_to_date_is_left(preact_run, digits):
    # Quantized by the fixture.
    before, manifest = contents(preact_run), (preact_run.path / MANIFEST).read_bytes()
    passes, done = quantized_from_graph(preact_run, digits, Plan())
    assert not done
    assert [entry.name for entry in passes] == list(DEFAULT_PASSES)
    assert (preact_run.path / MANIFEST).read_bytes() == manifest
    assert quantized_from_graph(preact_run, digits, plan_in(preact_run)) == (passes, False)
    assert quantized_from_graph(preact_run, digits, Plan(), force=True) == (passes, True)
    assert contents(preact_run) == before


@pytest.mark.parametrize(
    ("other", "redone"),
    [
        ({"saturation": "proved"}, {MODEL_INT8_CPU, MODEL_INT8_OPENVINO}),
        ({"stream": "fp16"}, {MODEL_INT8_GPU}),
        ({"stream": "fp32"}, {MODEL_INT8_CPU, MODEL_INT8_OPENVINO, MODEL_INT8_GPU}),
        ({"correct_bias": False}, set(FILES.values())),
        # The one convolution in FP8 for TensorRT for RTX is in another block.
        ({"float_blocks": ("stage2.0.add",)}, set(FILES.values()) - {MODEL_FP8_RTX}),
        ({"method": Method("percentile", 99.0)}, {RANGES, *FILES.values()}),
        ({"passes": ()}, set(MADE)),
        # OpenVINO's graph keeps BN anyway.
        ({"passes": ("equalize",)}, set(MADE) - {MODEL_REPARAMETRIZED_BN, MODEL_INT8_OPENVINO}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_only_what_an_option_decides_is_made_again(preact_run, digits, other, redone):
    before = contents(preact_run)
    _, done = quantized_from_graph(preact_run, digits, Plan(**other))
    assert done
    assert {name for name, content in contents(preact_run).items() if content != before[name]} == redone


def test_new_weights_are_quantized_anew_by_the_same_plan(preact_run, few):
    plan = Plan(method=Method("minmax"), saturation="proved")
    quantized_from_graph(preact_run, few, plan)
    checkpoint_from_initialisation(preact_run, resnet_config("preact", TINY_DEPTH), few, seed=1)
    graph_from_checkpoint(preact_run)
    assert not is_quantized(preact_run)
    assert plan_in(preact_run) == plan
    _, done = quantized_from_graph(preact_run, few, plan_in(preact_run))
    assert done
    assert is_quantized(preact_run)
    for name in FILES.values():
        assert card_from_file(preact_run.verified(name)).is_same_network(
            card_from_file(preact_run.verified(MODEL))
        )


@pytest.mark.parametrize("missing", [MODEL_REPARAMETRIZED, RANGES, MODEL_FP8_GPU])
def test_nothing_may_be_missing(preact_run, missing):
    assert is_quantized(preact_run)
    preact_run.discard(missing)
    assert not is_quantized(preact_run)


@pytest.mark.parametrize("stage", ["reparametrize", "observe", "quantize"])
def test_graphs_of_an_earlier_revision_are_made_again(preact_run, digits, monkeypatch, stage):
    """The code that made them has been changed since."""
    monkeypatch.setitem(STAGES, stage, replace(STAGES[stage], revision=STAGES[stage].revision + 1))
    assert not is_quantized(preact_run)
    before = contents(preact_run)
    _, done = quantized_from_graph(preact_run, digits, plan_in(preact_run))
    assert done
    assert is_quantized(preact_run)
    # Today they are the same, but the records are not.
    assert contents(preact_run) == before


def test_a_run_that_was_never_quantized_has_no_plan(tmp_path):
    run = RunDirectory(tmp_path)
    assert plan_in(run) is None
    assert not is_quantized(run)


def test_graphs_of_another_plan_than_the_last_are_not_what_was_asked_for(preact_run, digits, monkeypatch):
    """As after `kill -9` between the plan and the graphs."""

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration.plan, "qdq_from_ranges", killed)
    plan = Plan(saturation="proved", float_blocks=("stage2.0.add",))
    with pytest.raises(KeyboardInterrupt):
        quantized_from_graph(preact_run, digits, plan)
    monkeypatch.undo()
    run = RunDirectory(preact_run.path)
    assert plan_in(run) == plan
    assert not is_quantized(run)
    assert quantized_from_graph(run, digits, plan)[1]
    assert is_quantized(run)


def test_a_plan_that_is_none_is_refused(preact_run):
    with preact_run.writing(Step("plan", {}, (), (PLAN,))) as folder:
        (folder / PLAN).write_text('{"method": {"name": "minmax"}, "streem": "int8"}')
    with pytest.raises(UserError, match=r"plan.json is not a plan \(unknown field streem\)"):
        plan_in(preact_run)


def test_refused_block_leaves_the_graphs_as_they_were(preact_run, digits):
    before = contents(preact_run)
    with pytest.raises(UserError, match="no block that ends in nowhere"):
        quantized_from_graph(preact_run, digits, Plan(float_blocks=("nowhere",)))
    assert contents(preact_run) == before
