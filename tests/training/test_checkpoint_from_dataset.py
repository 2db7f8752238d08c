import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_trainings import (
    BATCHES,
    CONFIG,
    RECIPE,
    TIMES,
    Counting,
    log,
    parted,
    trained,
    weights,
    without_times,
)
from torch import Tensor, nn

from artifacts.names import (
    BEST_CHECKPOINT,
    BEST_CHECKPOINT_CARD,
    CHECKPOINT,
    CHECKPOINT_CARD,
    MANIFEST,
    TRAINING_LOG,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset, Split, dataset_from_splits
from errors import UserError
from models.checkpoint import CheckpointCard, card_in, model_from_checkpoint, model_in
from models.config import VARIANTS, resnet_config
from training.checkpoints import checkpoint_from_initialisation
from training.evaluation import accuracy_of
from training.execution import Execution


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_falls_and_digits_are_learnt(
    trained_runs: dict[str, Path], digits: Dataset, variant: str
) -> None:
    run = RunDirectory(trained_runs[variant])
    lines = log(run)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["held_out_accuracy"] > 60
    assert card_in(run).training["test_accuracy"] > 60, "one in ten would be chance"
    model, card = model_in(run)
    assert accuracy_of(model, digits, digits.test) == pytest.approx(card.training["test_accuracy"], abs=0.6)


def test_the_card_tells_how_it_was_trained(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset
) -> None:
    run, card = uninterrupted
    assert card_in(run) == card
    assert card.trained
    assert card.model == CONFIG
    assert (card.dataset, card.classes, card.mean, card.std) == ("digits", few.classes, few.mean, few.std)
    training = card.training
    assert training["recipe"] == RECIPE.to_json()
    assert training["seed"] == 0
    assert training["device"] == "cpu"
    assert training["torch"] == torch.__version__
    assert training["arithmetic"] in ("float32", "bfloat16 autocast")
    assert training["seconds"] == pytest.approx(sum(line["seconds"] for line in log(run)), abs=0.1)


def test_the_log_has_a_line_an_epoch(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset
) -> None:
    run, _ = uninterrupted
    lines = log(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        how = {"arithmetic", "device", "processes", "recompute"}
        assert line.keys() == {"epoch", "loss", "train_accuracy", "held_out_accuracy", *TIMES, *how}
        assert 0 < line["loss"] < 10
        assert 0 <= line["train_accuracy"] <= 100
        assert line["seconds"] > 0
    model, _ = model_in(run)
    assert lines[-1]["held_out_accuracy"] == accuracy_of(model, few, few.calibration)


def test_a_run_holds_the_checkpoint_and_no_state(uninterrupted: tuple[RunDirectory, CheckpointCard]) -> None:
    run, _ = uninterrupted
    made = {CHECKPOINT, CHECKPOINT_CARD, TRAINING_LOG, BEST_CHECKPOINT, BEST_CHECKPOINT_CARD}
    assert set(run.recorded()) == made
    assert {path.name for path in run.path.iterdir()} - {".lock", ".train.lock"} == made | {MANIFEST}


def test_the_seed_decides_the_weights(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(99)  # The random state of the caller must not matter.
    same, card = trained(tmp_path / "same", few)
    another, _ = trained(tmp_path / "another", few, seed=1)
    assert weights(same) == weights(uninterrupted[0])
    assert card.training["test_accuracy"] == uninterrupted[1].training["test_accuracy"]
    assert weights(another) != weights(same)


def test_a_second_training_of_a_run_is_refused_and_another_stage_is_waited_for(
    few: Dataset, tmp_path: Path
) -> None:
    quick = replace(RECIPE, epochs=1)
    run = RunDirectory(tmp_path / "run")
    with run.alone("train"), pytest.raises(UserError, match="another `train` is under way"):
        trained(run.path, few, quick)
    holding, finished_an_epoch = threading.Event(), threading.Event()
    order: list[str] = []

    def another_stage() -> None:
        with run.writing(Step("export", {}, (), ())):
            holding.set()
            finished_an_epoch.wait()
            # The training has time to ask for the lock. The order must be the same with any time.
            time.sleep(0.5)
            order.append("the other stage")

    def tell(model: nn.Module, line: dict[str, Any]) -> None:
        finished_an_epoch.set()

    thread = threading.Thread(target=another_stage)
    thread.start()
    holding.wait()
    try:
        trained(run.path, few, quick, after_epoch=tell)
        order.append("the training")
    finally:
        finished_an_epoch.set()
        thread.join()
    assert order == ["the other stage", "the training"]


def test_the_same_options_again_train_nothing(few: Dataset, tmp_path: Path) -> None:
    quick = replace(RECIPE, epochs=1)
    run, card = trained(tmp_path / "run", few, quick)
    before = run.record(CHECKPOINT)
    again = Counting()
    assert trained(tmp_path / "run", few, quick, progress=again)[1] == card
    assert again.seen == []
    forced = Counting()
    trained(tmp_path / "run", few, quick, progress=forced, force=True)
    assert forced.seen == [BATCHES]
    assert RunDirectory(run.path).record(CHECKPOINT).sha256 == before.sha256


def test_weights_of_another_arithmetic_than_asked_for_are_not_handed_out(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Execution, "_has_bfloat16", lambda self: True)
    quick = replace(RECIPE, epochs=1)
    trained(tmp_path / "run", few, quick, execution=Execution(arithmetic="fp32"))
    trained(tmp_path / "run", few, quick)
    with pytest.raises(UserError, match="weights trained in float32, not in bfloat16 autocast"):
        trained(tmp_path / "run", few, quick, execution=Execution(arithmetic="bf16"))


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"config": resnet_config("original", 8)}, {"recipe": replace(RECIPE, epochs=2)}],
    ids=["seed", "network", "recipe"],
)
def test_a_trained_run_is_replaced_only_by_force(
    few: Dataset, tmp_path: Path, change: dict[str, Any]
) -> None:
    quick = {"recipe": replace(RECIPE, epochs=1)}
    run, _ = trained(tmp_path / "run", few, **quick)
    before = weights(run)
    with pytest.raises(UserError, match="holds other trained weights") as error:
        trained(run.path, few, **quick | change)
    assert "--force" in error.value.fix
    assert weights(RunDirectory(run.path)) == before
    replaced, card = trained(run.path, few, **quick | change, force=True)
    assert weights(replaced) != before
    assert card_in(replaced) == card


def test_other_data_are_other_options(few: Dataset, digits: Dataset, tmp_path: Path) -> None:
    quick = replace(RECIPE, epochs=1)
    trained(tmp_path / "run", few, quick)
    smaller = dataset_from_splits("digits", few.classes, parted(digits.train, 110), few.test)
    with pytest.raises(UserError, match="holds other trained weights"):
        trained(tmp_path / "run", smaller, quick)


def test_untrained_weights_are_replaced_without_force(few: Dataset, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, CONFIG, few, seed=0)
    _, card = trained(run.path, few, replace(RECIPE, epochs=1))
    assert card.trained


def test_the_best_epoch_by_the_held_out_images_is_kept(few: Dataset, tmp_path: Path) -> None:
    accuracies = []

    def after_epoch(model: nn.Module, line: dict[str, Any]) -> None:
        accuracies.append(line["held_out_accuracy"])
        kept[line["epoch"]] = {name: value.clone() for name, value in model.state_dict().items()}

    kept: dict[int, dict[str, Tensor]] = {}
    # The rate is so high that the accuracy goes up and down.
    run, _ = trained(tmp_path / "run", few, replace(RECIPE, epochs=6, peak_rate=0.8), after_epoch=after_epoch)
    best = 1 + accuracies.index(max(accuracies))
    model, card = model_from_checkpoint(run.verified(BEST_CHECKPOINT), run.verified(BEST_CHECKPOINT_CARD))
    assert card.training["epochs_done"] == best
    assert all(torch.equal(value, kept[best][name]) for name, value in model.state_dict().items())


class NotBefore(Split):
    """A split that fails a test if images or labels are read before `allowed` is set."""

    allowed = False
    was_read = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):
            assert NotBefore.allowed, "the test split was used in training"
            NotBefore.was_read = True
        return super().__getattribute__(name)


def test_the_test_split_is_not_used_in_training(
    uninterrupted: tuple[RunDirectory, CheckpointCard],
    few: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, few.test.images.shape, np.uint8)
    # No logit belongs to class 10, so every answer is wrong, whatever the network has learnt.
    watched = NotBefore(noise, np.full_like(few.test.labels, 10))
    monkeypatch.setattr(NotBefore, "allowed", False)
    monkeypatch.setattr(NotBefore, "was_read", False)
    epochs = Counting()

    def progress(
        items: Iterable[Any], description: Callable[[], str], total: int | None = None
    ) -> Iterator[Any]:
        yield from epochs(items, description, total)
        if len(epochs.seen) == RECIPE.epochs:
            monkeypatch.setattr(NotBefore, "allowed", True)

    run, card = trained(tmp_path / "run", replace(few, test=watched), progress=progress)
    assert weights(run) == weights(uninterrupted[0])
    assert without_times(log(run)) == without_times(log(uninterrupted[0]))
    assert NotBefore.was_read
    assert card.training["test_accuracy"] == 0


def test_calibration_images_are_not_trained_on(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset, tmp_path: Path
) -> None:
    held_out = Split(few.calibration.images[::-1].copy() ^ 255, few.calibration.labels)
    run, _ = trained(tmp_path / "run", replace(few, calibration=held_out))
    assert weights(run) == weights(uninterrupted[0])
    assert [line["loss"] for line in log(run)] == [line["loss"] for line in log(uninterrupted[0])]


@pytest.mark.parametrize("name", ["tpu", "cuda:1", ""])
def test_an_unknown_device_writes_nothing(few: Dataset, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{name}': use cpu or cuda"):
        trained(tmp_path / "run", few, execution=Execution(name))
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU that PyTorch sees")
def test_training_on_a_gpu(few: Dataset, tmp_path: Path) -> None:
    run, card = trained(tmp_path / "run", few, execution=Execution("cuda"))
    assert card.training["device"] == "cuda"
    model, _ = model_in(run)
    assert accuracy_of(model, few, few.test) == pytest.approx(card.training["test_accuracy"], abs=2)
