"""A file is fresh only if everything that it was made from still is, down to the weights."""

import json
from dataclasses import replace

import pytest

from artifacts.names import (
    CHECKPOINT,
    MANIFEST,
    MODEL,
    MODEL_INT8_CPU,
    MODEL_REPARAMETRIZED,
    RANGES,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from artifacts.stages import STAGES
from calibration.plan import Plan, is_quantized, quantized_from_graph
from data.dataset import Dataset
from errors import UserError
from export.graph_from_checkpoint import graph_from_checkpoint
from models.checkpoint import card_in
from training.checkpoints import checkpoint_from_initialisation, holds_finished_training, refuse_to_replace

CHAIN = (CHECKPOINT, MODEL, MODEL_REPARAMETRIZED, RANGES, MODEL_INT8_CPU)


def fresh(run: RunDirectory) -> list[str]:
    return [name for name in CHAIN if run.is_fresh(name)]


def test_everything_is_fresh_that_was_just_made(run: RunDirectory) -> None:
    assert fresh(run) == list(CHAIN)


def test_other_weights_make_all_that_came_of_the_old_ones_stale(
    preact_run: RunDirectory, digits: Dataset
) -> None:
    network = card_in(preact_run).model
    checkpoint_from_initialisation(preact_run, network, digits, seed=3)
    assert fresh(preact_run) == [CHECKPOINT]
    assert not is_quantized(preact_run)
    graph_from_checkpoint(preact_run)
    assert fresh(preact_run) == [CHECKPOINT, MODEL]
    quantized_from_graph(preact_run, digits, Plan())
    assert fresh(preact_run) == list(CHAIN)


@pytest.mark.parametrize("stale", range(1, len(CHAIN)))
def test_another_revision_of_a_stage_makes_all_behind_it_stale(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, stale: int
) -> None:
    name = preact_run.record(CHAIN[stale]).stage
    monkeypatch.setitem(STAGES, name, replace(STAGES[name], revision=99))
    assert fresh(preact_run) == list(CHAIN[:stale])


def test_a_file_of_a_stage_that_is_no_more_is_stale(preact_run: RunDirectory) -> None:
    path = preact_run.path / MANIFEST
    document = json.loads(path.read_text())
    document["files"][MODEL]["stage"] = "convert"
    path.write_text(json.dumps(document))
    assert fresh(RunDirectory(preact_run.path)) == [CHECKPOINT]


def test_a_missing_input_makes_stale(preact_run: RunDirectory) -> None:
    preact_run.discard(RANGES)
    assert fresh(preact_run) == [CHECKPOINT, MODEL, MODEL_REPARAMETRIZED]


def test_a_manifest_of_the_format_before_keeps_its_weights(preact_run: RunDirectory) -> None:
    """It recorded no revisions: graphs are made again, and nobody loses what took hours to train."""
    path = preact_run.path / MANIFEST
    document = json.loads(path.read_text())
    document["format"] = 2
    for record in document["files"].values():
        del record["revision"]
    path.write_text(json.dumps(document))
    run = RunDirectory(preact_run.path)
    assert fresh(run) == [CHECKPOINT]
    assert holds_finished_training(run)
    with pytest.raises(UserError, match="holds other trained weights"):
        refuse_to_replace(run)
    assert graph_from_checkpoint(run).done
    assert fresh(RunDirectory(preact_run.path)) == [CHECKPOINT, MODEL]
    assert json.loads(path.read_text())["format"] == 3


def test_a_stage_that_is_not_in_the_table_writes_nothing() -> None:
    with pytest.raises(KeyError, match=r"knead is no stage of artifacts\.stages"):
        Step("knead", {}, (), ("dough",))


def test_the_stages_that_write_weights_stay_at_revision_0() -> None:
    """The format before recorded no revision, and its weights must stay valid."""
    assert [STAGES[name].revision for name in ("train", "initialise", "import")] == [0, 0, 0]
