import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
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
from errors import CheckFailed, UserError
from models.checkpoint import CheckpointCard, card_in, model_from_checkpoint, model_in
from models.config import VARIANTS, resnet_config
from training.checkpoints import checkpoint_from_initialisation
from training.execution import Execution
from training.loop import accuracy_of, checkpoint_from_dataset
from training.recipes import Recipe, recipe_from_name
from training.schedules import OneCycle
from training.state import STATE_LOG, STATES

CONFIG = resnet_config("preact", 8)
RECIPE = replace(recipe_from_name("digits", 20), epochs=3)
# 110 training images in batches of 32: three full ones and a rest of 14.
BATCHES = 4
Text = Callable[[], str]
TIMES = ("seconds", "images_per_s")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """With batches this small, threads wait for each other, and for long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    """The first digits: enough to train on, little enough for a fraction of a second an epoch."""
    return dataset_from_splits("digits", digits.classes, parted(digits.train, 120), parted(digits.test, 60))


def parted(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


def trained(
    path: Path, dataset: Dataset, recipe: Recipe = RECIPE, **options: Any
) -> tuple[RunDirectory, CheckpointCard]:
    run = RunDirectory(path)
    return run, checkpoint_from_dataset(run, options.pop("config", CONFIG), dataset, recipe, **options)


def weights(run: RunDirectory) -> bytes:
    return run.verified(CHECKPOINT).read_bytes()


def log(run: RunDirectory) -> list[dict[str, Any]]:
    name = TRAINING_LOG if TRAINING_LOG in run else STATE_LOG
    return run.json_lines(name)


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


class Counting:
    """A progress that counts epochs, and stops the training where it is told to."""

    def __init__(self, epochs: int | None = None, batches: int = 0) -> None:
        self.stop = (epochs, batches)
        self.seen: list[int] = []
        self.descriptions: list[str] = []

    def __call__(
        self, items: Iterable[Any], description: Callable[[], str], total: int | None = None
    ) -> Iterator[Any]:
        self.seen.append(0)
        for item in items:
            if (len(self.seen) - 1, self.seen[-1]) == self.stop:
                raise KeyboardInterrupt
            self.seen[-1] += 1
            yield item
            self.descriptions.append(description())
        assert self.seen[-1] == total


@pytest.fixture(scope="module")
def uninterrupted(
    few: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDirectory, CheckpointCard]:
    """A run that others are compared with. Not to be changed."""
    return trained(tmp_path_factory.mktemp("loop") / "uninterrupted", few)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_falls_and_digits_are_learnt(
    trained_runs: dict[str, Path], digits: Dataset, variant: str
) -> None:
    run = RunDirectory(trained_runs[variant])
    lines = log(run)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["held_out_accuracy"] > 60
    assert card_in(run).training["test_accuracy"] > 60, "chance is 10"
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
    torch.manual_seed(99)  # of whoever calls; not to matter
    same, card = trained(tmp_path / "same", few)
    other, _ = trained(tmp_path / "other", few, seed=1)
    assert weights(same) == weights(uninterrupted[0])
    assert card.training["test_accuracy"] == uninterrupted[1].training["test_accuracy"]
    assert weights(other) != weights(same)


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


def test_a_second_training_of_a_run_is_refused_and_another_stage_is_waited_for(
    few: Dataset, tmp_path: Path
) -> None:
    quick = replace(RECIPE, epochs=1)
    run = RunDirectory(tmp_path / "run")
    with run.alone("train"), pytest.raises(UserError, match="another `train` is under way"):
        trained(run.path, few, quick)
    holding = threading.Event()

    def another_stage() -> None:
        with run.writing(Step("export", {}, (), ())):
            holding.set()
            time.sleep(2)

    thread = threading.Thread(target=another_stage)
    thread.start()
    assert holding.wait(10)
    trained(run.path, few, quick)
    thread.join()


def test_recomputing_is_not_compiled(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torch\.compile cannot be combined.*: leave out --compile"):
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
    other = dataset_from_splits("digits", few.classes, parted(digits.train, 110), few.test)
    with pytest.raises(UserError, match="holds other trained weights"):
        trained(tmp_path / "run", other, quick)


def test_untrained_weights_are_replaced_without_force(few: Dataset, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, CONFIG, few, seed=0)
    _, card = trained(run.path, few, replace(RECIPE, epochs=1))
    assert card.trained


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


class NotBefore(Split):
    """A split that fails a test where it is touched before `allowed` is set."""

    allowed = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):
            assert NotBefore.allowed, "the test split was used in training"
        return super().__getattribute__(name)


def test_the_test_split_is_not_used_in_training(
    uninterrupted: tuple[RunDirectory, CheckpointCard],
    few: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = np.random.default_rng(0).integers(0, 256, few.test.images.shape, np.uint8)
    watched = NotBefore(other, few.test.labels)
    monkeypatch.setattr(NotBefore, "allowed", False)
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
    assert card.training["test_accuracy"] != uninterrupted[1].training["test_accuracy"]


def test_calibration_images_are_not_trained_on(
    uninterrupted: tuple[RunDirectory, CheckpointCard], few: Dataset, tmp_path: Path
) -> None:
    held_out = Split(few.calibration.images[::-1].copy() ^ 255, few.calibration.labels)
    run, _ = trained(tmp_path / "run", replace(few, calibration=held_out))
    assert weights(run) == weights(uninterrupted[0])
    assert [line["loss"] for line in log(run)] == [line["loss"] for line in log(uninterrupted[0])]


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


def test_the_best_epoch_by_the_held_out_images_is_kept(few: Dataset, tmp_path: Path) -> None:
    accuracies = []

    def after_epoch(model: nn.Module, line: dict[str, Any]) -> None:
        accuracies.append(line["held_out_accuracy"])
        kept[line["epoch"]] = {name: value.clone() for name, value in model.state_dict().items()}

    kept: dict[int, dict[str, Tensor]] = {}
    # So high a rate that the accuracy goes up and down.
    run, _ = trained(tmp_path / "run", few, replace(RECIPE, epochs=6, peak_rate=0.8), after_epoch=after_epoch)
    best = 1 + accuracies.index(max(accuracies))
    model, card = model_from_checkpoint(run.verified(BEST_CHECKPOINT), run.verified(BEST_CHECKPOINT_CARD))
    assert card.training["epochs_done"] == best
    assert all(torch.equal(value, kept[best][name]) for name, value in model.state_dict().items())


def test_what_is_added_to_a_line_is_kept(few: Dataset, tmp_path: Path) -> None:
    def after_epoch(model: nn.Module, line: dict[str, Any]) -> None:
        line["mine"] = line["epoch"] * 10

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", few, progress=Counting(1), after_epoch=after_epoch)
    run, _ = trained(tmp_path / "run", few, after_epoch=after_epoch)
    assert [line["mine"] for line in log(run)] == [10, 20, 30]


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


class Echo(nn.Module):
    """Logits that name the class written into an image's first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 10).float()


@pytest.mark.parametrize("evaluation_batch", [3, 10, 500])
def test_accuracy_by_hand(few: Dataset, monkeypatch: pytest.MonkeyPatch, evaluation_batch: int) -> None:
    monkeypatch.setattr("training.loop._EVALUATION_BATCH", evaluation_batch)
    images = np.zeros((10, 3, 32, 32), np.uint8)
    images[:, 0, 0, 0] = np.arange(10)
    answers = np.arange(10)
    answers[[0, 9, 4]] = [1, 0, 5]
    plain = replace(few, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = Echo().train()
    assert accuracy_of(model, plain, Split(images, answers)) == 70.0


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
