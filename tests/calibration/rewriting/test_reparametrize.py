"""The stage runs on untrained networks: what it writes, and that it catches a pass that went wrong.

Longer than 300 lines because the passes that go wrong run on the same networks as those that do not.
"""

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import PostconditionError
from sample_networks import (
    absorbable_network,
    graph_of,
    node_named,
    op_types,
    relative_error,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
)

import calibration.rewriting.reparametrize
from artifacts.files import sha256_of
from artifacts.names import MANIFEST, MODEL, MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, REPARAMETRIZATION
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.rewriting.absorb_batchnorm import AbsorbBatchnorm
from calibration.rewriting.equalize_stream import EqualizeStream
from calibration.rewriting.reparametrize import (
    DEFAULT_PASSES,
    LIMITS,
    PASSES,
    Reparametrization,
    passes_from_names,
    reparametrize,
    reparametrized_from_graph,
)
from errors import CheckFailed, UserError
from graphs.onnx_file import (
    card_from_file,
    constant,
    graph_from_file,
    initializer,
    replace_constant,
    write_graph,
)
from graphs.streams import streams_of
from models.config import VARIANTS, resnet_config

IMAGES = sample_images(4)
CONFIG = resnet_config("preact", 14)


@pytest.fixture(scope="module")
def dataset(digits):
    """Take few images to calibrate on, to save time."""
    return replace(digits, calibration=digits.calibration.subset(np.arange(12)))


def run_with(path, config, model):
    """Make a run directory that holds a graph, as if a network had been trained and exported."""
    run = RunDirectory(path / "run")
    with run.writing(Step("export", {}, (), (MODEL,))) as folder:
        write_graph(model, replace(sample_card(config), trained=True), folder / MODEL)
    return run


@pytest.fixture
def run(tmp_path):
    return run_with(tmp_path, CONFIG, graph_of(absorbable_network(CONFIG)))


def files_in(run):
    """Read everything but the lock file."""
    files = [path for path in run.path.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("names", "passes"),
    [
        ("none", ()),
        ("absorb", ("absorb",)),
        ("absorb,equalize", DEFAULT_PASSES),
        ("equalize,absorb", DEFAULT_PASSES),
        (" equalize , centre,absorb,absorb", PASSES),
    ],
)
def test_passes_are_named_in_any_order_and_done_in_one(names, passes):
    assert passes_from_names(names) == passes


@pytest.mark.parametrize(
    ("names", "unknown"),
    [("fold", "'fold'"), ("equalise,absorb", "'equalise'"), ("b,a", "'a, b'"), ("", "''"),
     ("absorb,", "''"), ("none,absorb", "'none'"), ("Absorb", "'Absorb'")],
)  # fmt: skip
def test_other_names_are_refused_with_those_there_are(names, unknown):
    with pytest.raises(UserError, match=f"unknown reparametrization {unknown}") as caught:
        passes_from_names(names)
    assert caught.value.fix == "use none, or some of absorb,centre,equalize"


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_passes_keep_the_network_and_leave_the_graph_given(variant):
    config = resnet_config(variant, 14)
    model = graph_of(absorbable_network(config))
    before = op_types(model)
    changed, done = reparametrize(model, PASSES, IMAGES, LIMITS[True])
    assert [entry.name for entry in done] == list(PASSES)
    expected, actual = (run_graph(graph, IMAGES)[0] for graph in (model, changed))
    assert 0 < done[-1].error < 1e-5
    assert relative_error(expected, actual) < 1e-5
    assert op_types(model) == before
    assert "BatchNormalization" not in op_types(changed)


def test_error_is_that_of_the_logits():
    model = sample_graph(CONFIG)
    changed, (done,) = reparametrize(model, ("equalize",), IMAGES, 1)
    expected, actual = (run_graph(graph, IMAGES)[0] for graph in (model, changed))
    assert done.error == pytest.approx(relative_error(expected, actual), rel=0.5)


def test_what_a_pass_changed_and_refused_is_told():
    model = sample_graph(CONFIG)
    _, (absorb, centre, equalize) = reparametrize(model, PASSES, IMAGES, LIMITS[True])
    bn = [node.name for node in model.graph if node.op_type == "BatchNormalization"]
    assert list(absorb.refused) == bn
    assert all("gamma is not positive" in reason for reason in absorb.refused.values())
    assert centre.refused == equalize.refused == {}
    values = tuple(str(value.name) for stream in streams_of(model) for value in stream.values)
    assert (absorb.changed, centre.changed, equalize.changed) == ((), values, values)


def test_stage_writes_the_graph_and_what_was_done(run, dataset):
    done, now = reparametrized_from_graph(run, dataset)
    assert now
    assert [entry.name for entry in done] == ["absorb", "equalize"]
    path = run.verified(MODEL_REPARAMETRIZED)
    images = dataset.normalised(dataset.calibration.images)
    expected, actual = (run_graph(p, images)[0] for p in (run.path / MODEL, path))
    assert relative_error(expected, actual) < 1e-5
    assert card_from_file(path) == card_from_file(run.path / MODEL)
    assert set(op_types(graph_from_file(path))) == {
        *("Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm")
    }
    document = json.loads(run.verified(REPARAMETRIZATION).read_text())
    for entry in document:
        entry["changed"] = tuple(entry["changed"])
    assert [Reparametrization(**entry) for entry in document] == done


def test_second_graph_keeps_bn(run, dataset):
    reparametrized_from_graph(run, dataset)
    exported, kept = (graph_from_file(run.path / name) for name in (MODEL, MODEL_REPARAMETRIZED_BN))
    assert op_types(kept) == op_types(exported)
    images = dataset.normalised(dataset.calibration.images)
    expected, actual = (run_graph(graph, images)[0] for graph in (exported, kept))
    assert 0 < relative_error(expected, actual) < 1e-5


@pytest.mark.parametrize(
    ("variant", "passes", "runs"),
    [("preact", DEFAULT_PASSES, 2), ("preact", ("equalize",), 1), ("original", DEFAULT_PASSES, 1)],
)
def test_where_nothing_is_absorbed_both_files_hold_one_graph(
    tmp_path, dataset, monkeypatch, variant, passes, runs
):
    called = []

    def counted(*arguments):
        called.append(arguments[1])
        return reparametrize(*arguments)

    monkeypatch.setattr(calibration.rewriting.reparametrize, "reparametrize", counted)
    config = resnet_config(variant, 14)
    run = run_with(tmp_path, config, graph_of(absorbable_network(config)))
    done, _ = reparametrized_from_graph(run, dataset, passes)
    assert [entry.name for entry in done] == list(passes)
    assert len(called) == runs
    first, second = (run.record(name).sha256 for name in (MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN))
    assert (first == second) == (runs == 1)


def test_manifest_records_what_it_was_made_from(run, dataset):
    reparametrized_from_graph(run, dataset)
    for name in (MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, REPARAMETRIZATION):
        record = run.record(name)
        assert record.inputs == {MODEL: sha256_of(run.path / MODEL)}
        assert record.options["passes"] == ["absorb", "equalize"]
        assert set(record.versions) == {"onnxruntime", "numpy"}


def test_second_call_is_up_to_date_and_tells_the_same(run, dataset):
    done, _ = reparametrized_from_graph(run, dataset)
    before = files_in(run)
    assert reparametrized_from_graph(run, dataset) == (done, False)
    assert files_in(run) == before
    again, now = reparametrized_from_graph(run, dataset, force=True)
    assert now
    assert again == done
    assert files_in(run)[MODEL_REPARAMETRIZED] == before[MODEL_REPARAMETRIZED]


def test_other_passes_images_or_graph_are_done_anew(run, dataset):
    reparametrized_from_graph(run, dataset)
    assert reparametrized_from_graph(run, dataset, ("centre",))[1]
    fewer = replace(dataset, calibration=dataset.calibration.subset(np.arange(10)))
    assert reparametrized_from_graph(run, fewer, ("centre",))[1]
    with run.writing(Step("export", {}, (), (MODEL,))) as folder:
        write_graph(sample_graph(CONFIG, seed=1), sample_card(CONFIG), folder / MODEL)
    assert reparametrized_from_graph(run, fewer, ("centre",))[1]


def test_none_leaves_the_network_as_it_was(run, dataset):
    assert reparametrized_from_graph(run, dataset, ()) == ([], True)
    before, after = (graph_from_file(run.path / name) for name in (MODEL, MODEL_REPARAMETRIZED))
    assert op_types(after) == op_types(before)
    for name, value in before.graph.initializers.items():
        np.testing.assert_array_equal(constant(after.graph.initializers[name]), constant(value))


def test_missing_graph(tmp_path, dataset):
    with pytest.raises(UserError, match=rf"{MODEL} has not been made"):
        reparametrized_from_graph(RunDirectory(tmp_path / "empty"), dataset)
    assert not (tmp_path / "empty").exists()


def test_changed_graph(run, dataset):
    (run.path / MODEL).write_bytes((run.path / MODEL).read_bytes() + b" ")
    with pytest.raises(UserError, match="its sha256 differs"):
        reparametrized_from_graph(run, dataset)


def test_calibrating_on_test_images_is_refused(run, dataset, digits):
    before = files_in(run)
    leaky = replace(dataset, calibration=digits.test.subset(np.arange(12)))
    with pytest.raises(UserError, match="12 calibration images are in the test split"):
        reparametrized_from_graph(run, leaky)
    assert files_in(run) == before


class ForgetsAShift(AbsorbBatchnorm):
    """Lose the bias of one channel."""

    def rewrite(self, graph):
        result = super().rewrite(graph)
        bias = node_named(graph, "stage2.0.projection").inputs[2]
        replace_constant(bias, np.r_[0, constant(bias)[1:]])
        return result


class Overflows(AbsorbBatchnorm):
    """Write NaN into the logits."""

    def rewrite(self, graph):
        result = super().rewrite(graph)
        replace_constant(node_named(graph, "classifier").inputs[2], np.full(10, np.nan))
        return result


@pytest.mark.parametrize("fault", [ForgetsAShift, Overflows], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("made_before", [False, True])
def test_pass_that_changes_the_network_is_named_and_nothing_is_written(
    run, dataset, monkeypatch, fault, made_before
):
    if made_before:
        reparametrized_from_graph(run, dataset, ("equalize",))
    before = files_in(run)
    monkeypatch.setattr(calibration.rewriting.reparametrize, "AbsorbBatchnorm", fault)
    with pytest.raises(
        CheckFailed, match="'absorb' changed the network: the logits' relative error is"
    ) as caught:
        reparametrized_from_graph(run, dataset)
    assert caught.value.exit_status == 1
    assert "--reparametrize" in caught.value.fix
    assert files_in(run) == before
    assert MANIFEST in before


def test_later_pass_that_changes_the_network_is_the_one_named(run, dataset, monkeypatch):
    class Rescales(EqualizeStream):
        def rewrite(self, graph):
            weight = node_named(graph, "classifier").inputs[1]
            replace_constant(weight, (1 + 3e-4) * constant(weight))
            return super().rewrite(graph)

    monkeypatch.setattr(calibration.rewriting.reparametrize, "EqualizeStream", Rescales)
    with pytest.raises(
        CheckFailed, match=r"'equalize' changed the network: the logits' relative error is [23]\.\de-04"
    ):
        reparametrized_from_graph(run, dataset)


def test_pass_that_breaks_its_promise_is_named_and_nothing_is_written(run, dataset, monkeypatch):
    class LosesABatchnorm(AbsorbBatchnorm):
        """Put one BN back that computes nothing, so that the logits do not tell."""

        def rewrite(self, graph):
            result = super().rewrite(graph)
            first, *others = result.changed
            relu = node_named(graph, first.replace("bn", "relu"))
            ones, zeros = (np.full(16, value, np.float32) for value in (1, 0))
            parameters = [
                initializer(graph.graph, f"{first}.{number}", array)
                for number, array in enumerate((ones, zeros, zeros, ones))
            ]
            bn = ir.node("BatchNormalization", [relu.inputs[0], *parameters], {"epsilon": 0.0}, name=first)
            bn.outputs[0].name = first
            graph.graph.insert_before(relu, bn)
            relu.replace_input_with(0, bn.outputs[0])
            return self.result(others)

    before = files_in(run)
    monkeypatch.setattr(calibration.rewriting.reparametrize, "AbsorbBatchnorm", LosesABatchnorm)
    told = "pass 'absorb' broke a promise: BatchNormalization stage1.0.preact.bn1 still reads the stream"
    with pytest.raises(PostconditionError, match=told):
        reparametrized_from_graph(run, dataset)
    assert files_in(run) == before


def test_entries_of_an_earlier_version_are_read(run, dataset, monkeypatch):
    """Such entries say nothing of what was changed."""
    done, _ = reparametrized_from_graph(run, dataset)
    document = json.loads((run.path / REPARAMETRIZATION).read_text())
    for entry in document:
        del entry["changed"]
    (run.path / REPARAMETRIZATION).write_text(json.dumps(document))
    monkeypatch.setattr(RunDirectory, "is_current", lambda self, step: True)
    assert reparametrized_from_graph(run, dataset) == ([replace(entry, changed=()) for entry in done], False)


def test_shared_weight_is_refused_and_named(tmp_path, dataset):
    model = graph_of(absorbable_network(CONFIG))
    first, second = (node_named(model, f"stage1.{n}.residual.conv1") for n in (0, 1))
    second.replace_input_with(1, first.inputs[1])
    run = run_with(tmp_path, CONFIG, model)
    before = files_in(run)
    with pytest.raises(CheckFailed, match=f"is shared by {first.name} and {second.name}"):
        reparametrized_from_graph(run, dataset)
    assert files_in(run) == before
