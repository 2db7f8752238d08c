"""The trained networks that come with the project, through the stages that need trained ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import QUICK
from conftest import CIFAR10_DIR, Outcome, needs_cifar10

from artifacts.names import ACCURACY, CHECKPOINT, CHECKPOINT_CARD
from artifacts.run_directory import RunDirectory
from calibration.searching.search import DEFAULT_MAX_DROP
from models.checkpoint import card_in
from models.config import VARIANTS

ZOO = Path(__file__).parents[1] / "zoo"

Skipfold = Callable[..., Outcome]


def weights_of(variant: str) -> Path:
    return ZOO / f"cifar10-{variant}-20.safetensors"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_of_the_zoo_is_exported_without_data(
    skipfold: Skipfold, tmp_path: Path, variant: str
) -> None:
    exported = skipfold("export", "--from", weights_of(variant), "--json")
    assert exported.status == 0, exported.err
    assert exported.document["trained"] and exported.document["audit"]["clean"] == (variant == "preact")
    run = RunDirectory(tmp_path / "runs" / f"cifar10-{variant}-20")
    assert (run.path / CHECKPOINT).read_bytes() == weights_of(variant).read_bytes()


def test_weights_that_are_taken_over_are_not_trained(skipfold: Skipfold) -> None:
    outcome = skipfold("deploy", "--from", weights_of("preact"), "--epochs", 1)
    assert outcome.status == 2
    assert "--from takes weights over" in outcome.err


def test_deploy_by_force_keeps_the_weights_it_is_given(
    skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a builder, because engines are built long after the weights are taken over."""
    monkeypatch.setattr("runtimes.tensorrt.package.version_of", lambda package: None)
    for name in (CHECKPOINT, CHECKPOINT_CARD):
        shutil.copyfile(preact_run.path / name, tmp_path / name)
    given = ("--from", tmp_path / CHECKPOINT, "--run-dir", tmp_path / "run", "--force")
    assert skipfold("deploy", *given, *QUICK).status == 0
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == (tmp_path / CHECKPOINT).read_bytes()


@needs_cifar10
@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_keeps_the_accuracy_of_the_zoo(skipfold: Skipfold, tmp_path: Path, variant: str) -> None:
    """The limit is the one that the search is held to by default."""
    options = ("--variant", variant, "--dataset", "cifar10", "--data-dir", CIFAR10_DIR)
    assert skipfold("export", "--from", weights_of(variant)).status == 0
    assert skipfold("calibrate", *options).status == 0
    assert skipfold("verify", *options, "--engine", "ort").status == 0
    run = RunDirectory(tmp_path / "runs" / f"cifar10-{variant}-20")
    accuracy = json.loads((run.path / ACCURACY).read_text())
    assert accuracy["images"] == 10_000
    assert accuracy["original_accuracy"] == pytest.approx(card_in(run).training["test_accuracy"], abs=0.03)
    drops = {row["precision"]: row["drop"] for row in accuracy["rows"]}
    assert drops.keys() == {"fp32", "int8"} and abs(drops["fp32"]) <= 0.02
    assert drops["int8"] <= DEFAULT_MAX_DROP
