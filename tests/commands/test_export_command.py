"""`export`: what it says, and which checkpoints it takes over."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import (
    DEPTH,
    Skipfold,
    assert_refused,
)
from conftest import TINY_DEPTH

from artifacts.names import (
    CHECKPOINT,
    CHECKPOINT_CARD,
    MODEL,
    MODEL_FP16,
)
from artifacts.run_directory import RunDirectory


def test_export_without_a_checkpoint_says_that_the_weights_are_random(
    skipfold: Skipfold, tmp_path: Path
) -> None:
    outcome = skipfold("export", *DEPTH, "--json")
    assert outcome.status == 0
    assert "freshly initialised" in outcome.err
    assert outcome.document["trained"] is False
    run = tmp_path / "runs" / f"digits-preact-{TINY_DEPTH}"
    assert json.loads((run / CHECKPOINT_CARD).read_text())["trained"] is False
    assert {MODEL, MODEL_FP16} <= {path.name for path in run.iterdir()}


def test_export_says_what_the_skip_path_is_made_of(skipfold: Skipfold, run: RunDirectory) -> None:
    outcome = skipfold("export", "--run-dir", run.path, "--force")
    assert outcome.status == 0
    expected = "clean" if "preact" in run.path.name else "3 ReLU after the Adds"
    assert expected in outcome.out


def test_export_takes_over_a_checkpoint(
    skipfold: Skipfold, trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    source = trained_runs["original"]
    outcome = skipfold("export", "--checkpoint", source / CHECKPOINT)
    assert outcome.status == 0, outcome
    target = tmp_path / "runs" / source.name
    assert (target / CHECKPOINT).read_bytes() == (source / CHECKPOINT).read_bytes()


def test_a_checkpoint_of_another_depth(skipfold: Skipfold, preact_run: RunDirectory) -> None:
    outcome = skipfold("export", "--depth", 14, "--run-dir", preact_run.path)
    assert_refused(outcome, "holds a preact ResNet-8", "not preact ResNet-14")
    outcome = skipfold("export", "--depth", 14, "--checkpoint", preact_run.path / CHECKPOINT)
    assert_refused(outcome, "holds a preact ResNet-8", "not preact ResNet-14")


def test_a_checkpoint_of_another_number_of_classes(
    skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path
) -> None:
    shutil.copy(preact_run.path / CHECKPOINT, tmp_path / "weights.safetensors")
    card = json.loads((preact_run.path / CHECKPOINT_CARD).read_text())
    card["model"]["num_classes"] = 7
    card["classes"] = card["classes"][:7]
    (tmp_path / "weights.json").write_text(json.dumps(card))
    outcome = skipfold("export", "--checkpoint", tmp_path / "weights.safetensors", "--run-dir", "new")
    assert_refused(outcome, "another network", "classifier.weight is [10, 64], not [7, 64]")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("depth", [0, -2])
def test_a_depth_that_is_none_is_not_taken_for_unset(
    skipfold: Skipfold, preact_run: RunDirectory, depth: int
) -> None:
    outcome = skipfold("export", "--from", preact_run.path / CHECKPOINT, "--depth", depth, "--run-dir", "new")
    assert_refused(outcome, f"no CIFAR ResNet has depth {depth}")


def test_a_seed_is_not_passed_over(skipfold: Skipfold, tmp_path: Path) -> None:
    weights = tmp_path / "runs" / f"digits-preact-{TINY_DEPTH}" / CHECKPOINT
    seen = []
    for more in ((), ("--seed", 1, "--force"), ("--seed", 1), ("--force",), ("--seed", 0)):
        assert skipfold("export", *DEPTH, *more).status == 0
        seen.append(weights.read_bytes())
    first, other, same, forced, back = seen
    assert first != other == same == forced
    assert back == first
