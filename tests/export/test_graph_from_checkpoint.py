import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from sample_networks import run_graph, sample_images

import export.fold
from artifacts.files import sha256_of
from artifacts.names import AUDIT, CHECKPOINT, CHECKPOINT_CARD, MANIFEST, MODEL, MODEL_BF16, MODEL_FP16
from artifacts.run_directory import RunDirectory
from errors import CheckFailed, UserError
from export.graph_from_checkpoint import TOLERANCE, error_against, graph_from_checkpoint, narrowed_from_graph
from graphs.onnx_file import card_from_file, graph_from_file
from models.checkpoint import model_in
from models.config import resnet_config
from training.checkpoints import checkpoint_from_initialisation


@pytest.fixture
def fresh_run(tmp_path, digits):
    """A run with an untrained checkpoint and nothing else."""
    run = RunDirectory(tmp_path / "fresh")
    checkpoint_from_initialisation(run, resnet_config("preact", 8), digits, seed=0)
    return run


def files_in(run):
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


def test_graph_and_audit_are_written_and_recorded(fresh_run):
    exported = graph_from_checkpoint(fresh_run)
    assert exported.done
    assert (exported.folded, exported.kept) == (3, 4)
    assert exported.audit.clean
    assert 0 <= exported.error < TOLERANCE
    assert MODEL in fresh_run
    assert AUDIT in fresh_run
    graph_from_file(fresh_run.verified(MODEL))
    inputs = {name: sha256_of(fresh_run.path / name) for name in (CHECKPOINT, CHECKPOINT_CARD)}
    assert fresh_run.record(MODEL).inputs == inputs


def test_audit_file_says_what_was_returned(fresh_run):
    exported = graph_from_checkpoint(fresh_run)
    document = json.loads(fresh_run.verified(AUDIT).read_text())
    assert document == {
        "audit": {
            "adds": list(exported.audit.adds),
            "projections": ["stage2.0.projection", "stage3.0.projection"],
            "relus": [],
            "clean": True,
        },
        "folded": 3,
        "kept": 4,
        "error": exported.error,
    }


def test_second_call_is_up_to_date_and_returns_the_same(fresh_run):
    first = graph_from_checkpoint(fresh_run)
    before = files_in(fresh_run)
    assert graph_from_checkpoint(fresh_run) == replace(first, done=False)
    assert files_in(fresh_run) == before


def test_force_does_it_again_with_the_same_result(fresh_run):
    first = graph_from_checkpoint(fresh_run)
    before = files_in(fresh_run)
    again = graph_from_checkpoint(fresh_run, force=True)
    assert again.done
    assert again.audit == first.audit
    assert files_in(fresh_run)[MODEL] == before[MODEL]


def test_spoiled_graph_is_made_again(fresh_run):
    graph_from_checkpoint(fresh_run)
    content = (fresh_run.path / MODEL).read_bytes()
    (fresh_run.path / MODEL).write_bytes(content[:-1])
    assert graph_from_checkpoint(fresh_run).done
    assert (fresh_run.path / MODEL).read_bytes() == content


def test_other_weights_make_another_graph(fresh_run, digits):
    graph_from_checkpoint(fresh_run)
    narrowed_from_graph(fresh_run, "fp16")
    before = files_in(fresh_run)
    checkpoint_from_initialisation(fresh_run, resnet_config("preact", 8), digits, seed=1)
    assert graph_from_checkpoint(fresh_run).done
    assert narrowed_from_graph(fresh_run, "fp16")
    after = files_in(fresh_run)
    assert after[MODEL] != before[MODEL]
    assert after[MODEL_FP16] != before[MODEL_FP16]
    assert card_from_file(fresh_run.path / MODEL).checkpoint == sha256_of(fresh_run.path / CHECKPOINT)


def test_checkpoint_that_is_not_what_was_recorded_is_not_exported(fresh_run):
    path = fresh_run.path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    with pytest.raises(UserError, match="sha256 differs"):
        graph_from_checkpoint(fresh_run)
    assert not (fresh_run.path / MODEL).exists()


def test_run_without_checkpoint(tmp_path):
    with pytest.raises(UserError, match="has not been made"):
        graph_from_checkpoint(RunDirectory(tmp_path))


def test_metadata_tells_how_to_feed_and_read_the_network(run, digits):
    card = card_from_file(run.verified(MODEL))
    config = model_in(run)[0].config
    assert (card.variant, card.depth, card.block) == (config.variant, 8, "basic")
    assert card.classes == tuple("0123456789")
    assert (card.mean, card.std) == (digits.mean, digits.std)
    assert (card.dataset, card.trained) == ("digits", True)
    assert card.checkpoint == sha256_of(run.path / CHECKPOINT)
    assert (card.precision, card.flavour) == ("fp32", "any")


def test_metadata_is_readable_by_onnx_alone(preact_run):
    properties = {p.key: p.value for p in onnx.load(preact_run.path / MODEL).metadata_props}
    assert json.loads(properties["skipfold.classes"]) == list("0123456789")


def test_untrained_weights_are_told_apart(fresh_run):
    graph_from_checkpoint(fresh_run)
    assert card_from_file(fresh_run.path / MODEL).trained is False


def test_exported_graph_has_the_models_logits(run):
    images = sample_images(3)
    with torch.inference_mode():
        expected = model_in(run)[0](torch.from_numpy(images)).numpy()
    (actual,) = run_graph(run.path / MODEL, images)
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


def test_original_network_is_recorded_as_not_clean(trained_runs):
    document = json.loads((trained_runs["original"] / AUDIT).read_text())["audit"]
    assert document["clean"] is False
    assert document["relus"] == ["stage1.0.relu", "stage2.0.relu", "stage3.0.relu"]


def fold_with_epsilon(epsilon):
    true_fold = export.fold.fuse_conv_bn_eval

    def fold(conv, bn):
        bn.eps = epsilon
        return true_fold(conv, bn)

    return fold


def fold_without_mean(conv, bn):
    bn.running_mean.zero_()
    return torch.nn.utils.fusion.fuse_conv_bn_eval(conv, bn)


def fold_of_swapped_channels(conv, bn):
    bn.weight.data = bn.weight.data.flip(0)
    bn.bias.data = bn.bias.data.flip(0)
    return torch.nn.utils.fusion.fuse_conv_bn_eval(conv, bn)


@pytest.mark.parametrize(
    "wrong",
    [fold_with_epsilon(1e-2), fold_without_mean, fold_of_swapped_channels],
    ids=["epsilon", "mean", "channels"],
)
def test_wrong_fold_is_caught_and_nothing_is_published(preact_run, monkeypatch, wrong):
    for name in (MODEL, AUDIT):
        preact_run.discard(name)
    before = files_in(preact_run)
    monkeypatch.setattr(export.fold, "fuse_conv_bn_eval", wrong)
    with pytest.raises(CheckFailed, match="differs from PyTorch"):
        graph_from_checkpoint(preact_run)
    assert files_in(preact_run).keys() - {".lock"} == before.keys() - {".lock"}
    assert MODEL not in RunDirectory(preact_run.path)


def test_failed_export_leaves_the_former_one(preact_run, monkeypatch):
    before = files_in(preact_run)
    monkeypatch.setattr(export.fold, "fuse_conv_bn_eval", fold_without_mean)
    with pytest.raises(CheckFailed):
        graph_from_checkpoint(preact_run, force=True)
    after = files_in(preact_run)
    assert [after[name] for name in (MODEL, AUDIT, MANIFEST)] == [
        before[name] for name in (MODEL, AUDIT, MANIFEST)
    ]
    assert not [path for path in preact_run.path.iterdir() if path.is_dir() and "partial" in path.name]


def test_comparison_fails_on_values_that_are_not_finite(preact_run):
    model, _ = model_in(preact_run)
    model.classifier.bias.data[0] = torch.nan
    with pytest.raises(CheckFailed):
        error_against(model, preact_run.path / MODEL)


@pytest.mark.parametrize(("precision", "name"), [("fp16", MODEL_FP16), ("bf16", MODEL_BF16)])
def test_narrowed_graph_is_written_once(run, precision, name):
    assert not narrowed_from_graph(run, precision)
    before = files_in(run)[name]
    assert narrowed_from_graph(run, precision, force=True)
    assert files_in(run)[name] == before
    narrowed, single = card_from_file(run.path / name), card_from_file(run.path / MODEL)
    assert (narrowed.precision, narrowed.flavour) == (precision, "any")
    assert narrowed.is_same_network(single)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["preact", "original"])
def test_depth_1001_is_exported_and_audited(tmp_path, digits, variant):
    run = RunDirectory(tmp_path)
    checkpoint_from_initialisation(run, resnet_config(variant, 1001), digits, seed=0)
    exported = graph_from_checkpoint(run)
    assert len(exported.audit.adds) == 333
    assert len(exported.audit.projections) == 3
    assert len(exported.audit.relus) == (333 if variant == "original" else 0)
    assert exported.error < TOLERANCE
