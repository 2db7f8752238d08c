import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from short_trainings import (
    BATCHES,
    RECIPE,
    Counting,
    log,
    parted,
    trained,
    weights,
)
from torch import Tensor, nn

from artifacts.names import (
    CHECKPOINT,
)
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed, UserError
from models.checkpoint import CheckpointCard, model_in
from training.evaluation import accuracy_of
from training.execution import Execution
from training.recipes import Recipe
from training.schedules import OneCycle


def test_recomputing_is_not_compiled(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--compile cannot be combined.*: leave out --compile"):
        trained(tmp_path / "run", few, execution=Execution(recompute=True, compiled=True))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_learns_the_same(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset, tmp_path: Path
) -> None:
    run, _ = trained(tmp_path / "run", few, execution=Execution(compiled=True))
    losses = [[line["loss"] for line in log(each)] for each in (run, uninterrupted[0])]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    model, card = model_in(run)
    assert card.training["epochs_done"] == 3
    assert accuracy_of(model, few, few.test) == pytest.approx(card.training["test_accuracy"], abs=2)


def test_a_loss_that_is_not_finite_names_step_and_rate(few: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, peak_rate=1e6, schedule=OneCycle(warmup=0.0))
    with pytest.raises(
        CheckFailed, match=r"not finite (at|after) step \d+ of 12, learning rate \d\S*"
    ) as error:
        trained(tmp_path / "run", few, recipe)
    assert "--peak-rate" in error.value.fix
    assert error.value.exit_status == 1
    assert CHECKPOINT not in RunDirectory(tmp_path / "run")


def test_the_named_step_is_the_first_bad_one(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BreaksAtTheSixth(nn.CrossEntropyLoss):
        steps = 0

        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            type(self).steps += 1
            loss = super().forward(logits, targets)
            return loss * torch.inf if self.steps >= 6 else loss

    monkeypatch.setattr("training.loop.nn.CrossEntropyLoss", BreaksAtTheSixth)
    rate = RECIPE.rate_at(5, 12)
    with pytest.raises(CheckFailed, match=f"at step 6 of 12, learning rate {rate:.4g}"):
        trained(tmp_path / "run", few)
    assert len(log(RunDirectory(tmp_path / "run"))) == 1, "the first epoch was sound"
    assert BreaksAtTheSixth.steps == 7, "a loss is looked at when the next step is done"


def test_weights_that_the_last_step_of_an_epoch_breaks(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recipe, "rate_at", lambda self, step, steps: 3e38 if step == 7 else 0.01)
    with pytest.raises(CheckFailed, match="the network's output is not finite after step 8 of 12"):
        trained(tmp_path / "run", few)
    assert len(log(RunDirectory(tmp_path / "run"))) == 1, "the state of the first epoch is kept"


def test_the_rate_of_every_step_is_the_recipes(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, *arguments: Any) -> None:
            rates.append({group["lr"] for group in self.param_groups})
            super().step(*arguments)

    monkeypatch.setattr("training.loop.torch.optim.SGD", Watched)
    trained(tmp_path / "run", few)
    assert rates == [{RECIPE.rate_at(step, 12)} for step in range(12)]


@pytest.mark.parametrize("decay_all", [False, True])
def test_weight_decay_is_where_the_recipe_wants_it(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decay_all: bool
) -> None:
    groups: list[dict[str, Any]] = []
    original = torch.optim.SGD

    def watched(given: list[dict[str, Any]], **options: Any) -> torch.optim.SGD:
        optimizer = original(given, **options)
        groups.extend(optimizer.param_groups)
        return optimizer

    monkeypatch.setattr("training.loop.torch.optim.SGD", watched)
    trained(tmp_path / "run", few, replace(RECIPE, epochs=1, decay_all=decay_all))
    decay = {parameter.ndim: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay == {4: 5e-4, 2: 5e-4, 1: 5e-4 if decay_all else 0}
    model, _ = model_in(RunDirectory(tmp_path / "run"))
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in groups)


@pytest.mark.parametrize("count", [65, 33], ids=["rest of one", "one batch and a rest of one"])
def test_a_last_batch_of_one_image_is_left_out(few: Dataset, tmp_path: Path, count: int) -> None:
    dataset = replace(few, train=parted(few.train, count))
    seen = Counting()
    trained(tmp_path / "run", dataset, replace(RECIPE, epochs=1), progress=seen)
    assert seen.seen == [count // 32]


def test_progress_tells_epoch_loss_accuracy_and_speed(few: Dataset, tmp_path: Path) -> None:
    progress = Counting()
    trained(tmp_path / "run", few, replace(RECIPE, epochs=2), progress=progress)
    assert len(progress.descriptions) == 2 * BATCHES
    assert progress.descriptions[0] == "epoch 1/2", "nothing has arrived yet"
    figures = re.fullmatch(
        r"epoch 2/2  loss (\d\.\d{3})  accuracy (\d+\.\d) %  [\d,]+ images/s", progress.descriptions[-1]
    )
    assert figures
    assert 0 < float(figures[1]) < 4


def test_recomputed_activations_give_the_same_weights(few: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    plain, without = trained(tmp_path / "plain", few, recipe)
    recomputed, card = trained(tmp_path / "recomputed", few, recipe, execution=Execution(recompute=True))
    assert (without.training["recompute"], card.training["recompute"]) == (False, True)
    assert weights(plain) == weights(recomputed)


def test_activations_are_recomputed_where_they_do_not_fit(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.execution.host_memory", lambda: 1_000_000)
    _, card = trained(tmp_path / "run", few, replace(RECIPE, epochs=1))
    assert card.training["recompute"]
