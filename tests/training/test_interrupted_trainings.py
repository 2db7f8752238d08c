from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from short_trainings import BATCHES, RECIPE, Counting, log, trained, weights, without_times
from torch import nn

from artifacts.names import (
    BEST_CHECKPOINT,
    CHECKPOINT,
)
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import CheckpointCard, model_in
from models.config import resnet_config
from training.execution import Execution
from training.state import STATE_LOG, STATES


@pytest.mark.parametrize(
    ("epochs", "batches", "left"),
    [(0, 2, 3), (1, 0, 2), (1, 3, 2), (2, 2, 1)],
    ids=["in the first epoch", "after one epoch", "in the second epoch", "in the last epoch"],
)
def test_an_interrupted_run_continues_to_the_same_weights(
    uninterrupted: tuple[RunDirectory, CheckpointCard],
    few: Dataset,
    tmp_path: Path,
    epochs: int,
    batches: int,
    left: int,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(epochs, batches))
    between = RunDirectory(tmp_path / "run")
    assert len(set(between.recorded()) & set(STATES)) == epochs
    assert (CHECKPOINT in between) == (epochs > 0)
    torch.manual_seed(99)
    rest = Counting()
    run, card = trained(tmp_path / "run", few, progress=rest)
    assert rest.seen == [BATCHES] * left, "epochs that were done are not done again"
    assert weights(run) == weights(uninterrupted[0])
    assert without_times(log(run)) == without_times(log(uninterrupted[0]))
    assert card.training["test_accuracy"] == uninterrupted[1].training["test_accuracy"]
    assert not set(run.recorded()) & {*STATES, STATE_LOG}
    assert not list(run.path.glob("training-state*"))


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"config": resnet_config("original", 8)}, {"recipe": replace(RECIPE, peak_rate=0.05)}],
    ids=["seed", "network", "recipe"],
)
def test_an_interrupted_run_is_not_continued_with_other_options(
    few: Dataset, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1))
    with pytest.raises(UserError, match="training with other options, interrupted after epoch 1") as error:
        trained(tmp_path / "run", few, **change)
    assert "--no-resume" in error.value.fix
    whole = Counting()
    run, _ = trained(tmp_path / "run", few, progress=whole, execution=Execution(resume=False), **change)
    assert len(whole.seen) == 3
    afresh, _ = trained(tmp_path / "afresh", few, **change)
    assert weights(run) == weights(afresh)


def damage(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1])


def test_behind_a_damaged_state_is_that_of_the_epoch_before(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(2))
    damage(tmp_path / "run" / STATES[0])
    rest = Counting()
    run, _ = trained(tmp_path / "run", few, progress=rest)
    assert len(rest.seen) == 2
    assert weights(run) == weights(uninterrupted[0])


def test_a_damaged_state_is_not_forgotten_silently(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1))
    damage(tmp_path / "run" / STATES[1])
    with pytest.raises(UserError, match=r"state of the interrupted training .* is damaged"):
        trained(tmp_path / "run", few)
    run, _ = trained(tmp_path / "run", few, execution=Execution(resume=False))
    assert weights(run) == weights(uninterrupted[0])


@pytest.mark.parametrize("files", [1, 2], ids=["behind the state", "behind the log"])
def test_a_kill_between_the_files_of_a_state_loses_one_epoch_at_most(
    uninterrupted: tuple[RunDirectory, CheckpointCard],
    few: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: int,
) -> None:
    replaced: list[str] = []
    replace_file = Path.replace

    def killed_in_epoch_2(self: Path, target: Path) -> Path:
        if self.parent.name.endswith("-train") and replaced.count(STATE_LOG) and len(replaced) == 2 + files:
            raise KeyboardInterrupt
        if Path(target).name in (*STATES, STATE_LOG):
            replaced.append(Path(target).name)
        return replace_file(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_in_epoch_2)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", few)
    assert (tmp_path / "run" / STATES[0]).exists(), "the second epoch's state was in its place"
    rest = Counting()
    run, _ = trained(tmp_path / "run", few, progress=rest)
    assert len(rest.seen) == 2
    assert weights(run) == weights(uninterrupted[0])


def test_force_does_not_forget_another_training(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1))
    with pytest.raises(UserError, match="training with other options, interrupted after epoch 1"):
        trained(tmp_path / "run", few, seed=1, force=True)


def test_a_training_begun_anew_does_not_go_on_with_the_one_before(few: Dataset, tmp_path: Path) -> None:
    anew = Execution(resume=False)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(2))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1), execution=anew)
    rest = Counting()
    trained(tmp_path / "run", few, progress=rest)
    assert len(rest.seen) == 2, "after the first epoch, not the second"


def test_a_training_that_went_on_in_another_arithmetic_says_both(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1), execution=Execution(arithmetic="fp32"))
    path = tmp_path / "run" / STATES[1]
    run = RunDirectory(tmp_path / "run")
    with safe_open(path, "pt") as file:
        lines = file.metadata()["log"].replace("float32", "bfloat16 autocast")
    record = run.record(STATES[1])
    with run.writing(Step(record.stage, record.options, (), (STATES[1],))) as folder:
        (folder / STATES[1]).write_bytes(save(load_file(path), {"log": lines}))
    _, card = trained(tmp_path / "run", few, execution=Execution(arithmetic="fp32"))
    assert card.training["arithmetic"] == "bfloat16 autocast and float32"


def test_an_interrupted_training_leaves_the_weights_after_its_last_epoch(
    few: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1, 2))
    run = RunDirectory(tmp_path / "run")
    model, card = model_in(run)
    assert card.is_interrupted
    assert card.training["epochs_done"] == 1
    assert "test_accuracy" not in card.training
    state = load_file(run.verified(STATES[1]))
    assert all(torch.equal(value, state[f"model.{name}"]) for name, value in model.state_dict().items())
    assert [line["epoch"] for line in log(run)] == [1]


def test_an_interrupted_training_does_not_replace_a_finished_one(few: Dataset, tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run", few, replace(RECIPE, epochs=1))
    before = weights(run)
    with pytest.raises(KeyboardInterrupt):
        trained(run.path, few, force=True, progress=Counting(2))
    after = RunDirectory(run.path)
    assert weights(after) == before
    assert after.verified(BEST_CHECKPOINT).read_bytes() == before, "one epoch: the last is the best"
    assert STATES[0] in after


def test_what_is_added_to_a_line_is_kept(few: Dataset, tmp_path: Path) -> None:
    def after_epoch(model: nn.Module, line: dict[str, Any]) -> None:
        line["mine"] = line["epoch"] * 10

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1), after_epoch=after_epoch)
    run, _ = trained(tmp_path / "run", few, after_epoch=after_epoch)
    assert [line["mine"] for line in log(run)] == [10, 20, 30]
