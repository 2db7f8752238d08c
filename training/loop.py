"""The training loop: one stage, data set to checkpoint, continued where it was interrupted.

The whole training split lies on the device (`feed`), and nothing is waited for inside an epoch. After
each epoch the weights, momenta and random state are written (`state`); a rerun with the same options
goes on from there and ends with the same weights on the same CPU. The test split is looked at once,
after the last epoch, and chooses nothing.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD, TRAINING_LOG
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset, Split
from errors import CheckFailed, UserError
from models.checkpoint import CheckpointCard, card_from_json, card_in
from models.config import ResNetConfig
from models.resnet import ResNet, initialised
from progress import Progress, silent
from training.checkpoints import card_of_weights, holds_finished_training, refuse_to_replace, write_checkpoint
from training.epoch_figures import EpochFigures
from training.execution import ARITHMETIC, ON_CPU, Execution
from training.feed import Feed
from training.processes import Processes, process_group
from training.recipes import Recipe
from training.recompute import activation_bytes, recompute_stages
from training.state import (
    TrainingState,
    discard_state,
    lines_of,
    load_state,
    publish_best,
    refuse_to_forget,
    save_best,
    save_state,
    weights_of,
)

_EVALUATION_BATCH = 500
_ALONE = Processes()

AfterEpoch = Callable[[ResNet, dict[str, Any]], None]


def checkpoint_from_dataset(
    run: RunDirectory,
    config: ResNetConfig,
    dataset: Dataset,
    recipe: Recipe,
    seed: int = 0,
    execution: Execution = ON_CPU,
    force: bool = False,
    progress: Progress = silent,
    after_epoch: AfterEpoch = lambda model, line: None,
) -> CheckpointCard:
    """Train a network and write its checkpoint, the best one by held-out accuracy, and training.jsonl.

    Under torchrun every process calls this, and process 0 alone writes.

    Args:
        force: replace a trained checkpoint made with other options, or with these. An interrupted
            training of these options is continued all the same.
        after_epoch: called in process 0 with the network and the epoch's line of the log; what it adds
            to the line is kept.

    Raises:
        UserError: a trained checkpoint with other options, or a training with other options that was
            interrupted, stands there; another training is under way there; no such device; another
            process was lost.
        CheckFailed: the loss or the network's output is not finite; names the step and the learning rate.
    """
    step = _step(config, dataset, recipe, seed)
    with process_group(execution.torch_device().type) as processes, _nobody_else(run, step, processes):
        wanted = processes.is_first and _is_wanted(run, step, execution, force)
        if not processes.agree(wanted, execution.torch_device()):
            card = processes.tell(card_in(run).to_json() if processes.is_first else "")
            return card_from_json(card, run.path / CHECKPOINT_CARD)
        return _train(
            _Training(run, step, config, dataset, recipe, seed, execution, processes), progress, after_epoch
        )


def accuracy_of(model: nn.Module, dataset: Dataset, split: Split, processes: Processes = _ALONE) -> float:
    """Top-1 accuracy in percent, in float32 and evaluation mode; nan where a logit is not finite.

    Each process measures its part.
    """
    device = next(model.parameters()).device
    model.eval()
    correct, broken = torch.zeros(2, dtype=torch.int64, device=device)
    with torch.no_grad():
        batches = range(0, len(split), _EVALUATION_BATCH)
        for start in batches[processes.rank :: processes.count]:
            part = slice(start, start + _EVALUATION_BATCH)
            images = torch.from_numpy(dataset.normalised(split.images[part])).to(device)
            logits = model(images.to(memory_format=torch.channels_last))
            correct += (logits.argmax(1) == torch.from_numpy(split.labels[part]).to(device)).sum()
            broken += (~logits.isfinite()).sum()
    processes.add_up(correct)
    processes.add_up(broken)
    return math.nan if broken else 100 * int(correct) / len(split)


def _nobody_else(run: RunDirectory, step: Step, processes: Processes) -> AbstractContextManager[None]:
    return run.alone(step.stage) if processes.is_first else nullcontext()


def _step(config: ResNetConfig, dataset: Dataset, recipe: Recipe, seed: int) -> Step:
    return Step(
        stage="train",
        options={
            "model": config.to_json(),
            "dataset": dataset.sha256,
            "recipe": recipe.to_json(),
            "seed": seed,
        },
        inputs=(),
        outputs=(CHECKPOINT, CHECKPOINT_CARD, TRAINING_LOG),
    )


def _is_wanted(run: RunDirectory, step: Step, execution: Execution, force: bool) -> bool:
    """Whether there is anything to train; raises where it would destroy what was trained."""
    if not force:
        if run.is_current(step):
            _require_arithmetic(run, execution)
            return False
        refuse_to_replace(run)
    if execution.resume:
        refuse_to_forget(run, step)
    return True


def _require_arithmetic(run: RunDirectory, execution: Execution) -> None:
    """Raise UserError where weights trained in another arithmetic than was asked for would be kept."""
    wanted = ARITHMETIC[execution.chosen_arithmetic()]
    there = card_in(run).training["arithmetic"]
    if execution.arithmetic is not None and wanted != there:
        raise UserError(
            f"{run.path} holds weights trained in {there}, not in {wanted}",
            "train again with --force, leave out --arithmetic, or choose another --run-dir",
        )


class _Training:
    """One training in one of its processes."""

    def __init__(
        self,
        run: RunDirectory,
        step: Step,
        config: ResNetConfig,
        dataset: Dataset,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        processes: Processes,
    ) -> None:
        self._run, self._step, self._processes = run, step, processes
        self._config, self._dataset, self._recipe, self._seed = config, dataset, recipe, seed
        self._execution, self._device = execution, execution.torch_device()
        self._feed = Feed(dataset, recipe, self._device, processes)
        self._state = _initial_state(config, recipe, seed, self._device)
        found = load_state(run, step) if processes.is_first and execution.resume else None
        if found is not None:
            tensors, self._state.log = found
            self._state.take(tensors)
        self.finished_epochs = self._state.share(processes, self._device)
        self._recomputes = self._choose_recompute()
        network = torch.compile(self._state.model) if execution.compiled else self._state.model
        self._network = processes.parallel(network)  # type: ignore[arg-type]
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def train_epoch(self, progress: Progress, after_epoch: AfterEpoch) -> None:
        """One pass over the training images, then the held-out ones; process 0 writes."""
        figures = EpochFigures(len(self._feed), self._device, self._processes)
        epoch = self.finished_epochs
        self._network.train()
        batches = self._feed.epoch(self._state.generator)
        description = partial(self._bar_text, figures)
        for index, batch in enumerate(progress(batches, description, len(self._feed))):
            self._set_rate(epoch * len(self._feed) + index)
            with self._execution.autocast():
                logits = self._network(batch.images)
                loss = self._loss(logits.float(), batch.labels) * batch.share
            self._state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._state.optimizer.step()
            figures.add(loss, logits, batch.labels)
            # Several processes stop together, at the end of the epoch.
            if self._processes.count == 1 and not figures.is_finite:
                break
        figures.gather()
        self._require_finite(figures.losses)
        train_seconds = figures.seconds
        held_out = self._accuracy(self._dataset.calibration)
        if math.isnan(held_out):
            # The last step of an epoch has no loss after it that would tell.
            raise self._divergence("the network's output is not finite after", len(self._feed) - 1)
        self.finished_epochs += 1
        if self._processes.is_first:
            self._close_epoch(figures, train_seconds, held_out, after_epoch)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is finished."""
        return self.finished_epochs == self._recipe.epochs

    def leave_checkpoint(self) -> None:
        """Make the weights after the last finished epoch usable, unless a finished training's are there."""
        found = load_state(self._run, self._step) if self._processes.is_first else None
        if found is not None and not holds_finished_training(self._run):
            tensors, self._state.log = found
            self._state.model.load_state_dict(weights_of(tensors))
            card = self._card(interrupted=True, epochs_done=len(self._state.log))
            self._write(Step(self._step.stage, {"interrupted": True}, (), self._step.outputs), card)
            publish_best(self._run, self._step)

    def finish(self) -> CheckpointCard:
        """Measure the test accuracy; process 0 writes the checkpoint and forgets the state."""
        accuracy = self._accuracy(self._dataset.test)
        if self._processes.is_first:
            card = self._card(epochs_done=self.finished_epochs, test_accuracy=accuracy)
            self._write(self._step, card)
            publish_best(self._run, self._step)
            discard_state(self._run)
        told = self._processes.tell(card.to_json() if self._processes.is_first else "")
        return card_from_json(told, self._run.path / CHECKPOINT_CARD)

    def _accuracy(self, split: Split) -> float:
        # BN's running statistics are process 0's, which every process's next step would take over anyway.
        self._processes.share(list(self._state.model.buffers()))
        return accuracy_of(self._state.model, self._dataset, split, self._processes)

    def _choose_recompute(self) -> bool:
        wanted = self._execution.recompute
        if wanted is None:
            pair = torch.from_numpy(self._dataset.normalised(self._dataset.train.images[:2]))
            model = self._state.model.train()
            part = self._recipe.batch_size // self._processes.count
            held = activation_bytes(model, pair.to(self._device), part, self._execution.autocast())
            wanted = self._execution.is_too_much(held, self._processes.local_count)
        if wanted and self._execution.compiled:
            raise UserError(
                "torch.compile cannot be combined with activation checkpointing, which this network needs "
                "here or was asked to use",
                "leave out --compile",
            )
        if wanted:
            recompute_stages(self._state.model)
        return wanted

    def _set_rate(self, index: int) -> None:
        for group in self._state.optimizer.param_groups:
            group["lr"] = self._recipe.rate_at(index, self._steps)

    @property
    def _steps(self) -> int:
        return self._recipe.epochs * len(self._feed)

    def _require_finite(self, losses: list[float]) -> None:
        bad = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            raise self._divergence("the loss is not finite at", bad[0])

    def _divergence(self, what: str, index: int) -> CheckFailed:
        number = self.finished_epochs * len(self._feed) + index
        return CheckFailed(
            f"{what} step {number + 1} of {self._steps}, "
            f"learning rate {self._recipe.rate_at(number, self._steps):.4g}",
            "lower the peak learning rate with --peak-rate",
        )

    def _close_epoch(
        self, figures: EpochFigures, train_seconds: float, held_out: float, after_epoch: AfterEpoch
    ) -> None:
        state, images = self._state, self._feed.handed_out
        line = {
            "epoch": self.finished_epochs,
            "loss": figures.loss,
            "train_accuracy": 100 * figures.correct / images,
            "held_out_accuracy": held_out,
            "images_per_s": round(images / train_seconds, 1),
            "seconds": round(figures.seconds, 2),
            "arithmetic": ARITHMETIC[self._execution.chosen_arithmetic()],
            "device": self._device.type,
            "processes": self._processes.count,
            "recompute": self._recomputes,
        }
        state.log.append(line)
        after_epoch(state.model, line)
        if state.is_best:
            save_best(self._run, self._step, state.model, self._card(epochs_done=self.finished_epochs))
        save_state(self._run, self._step, state)

    def _card(self, **more: Any) -> CheckpointCard:
        log = self._state.log
        training = {
            "recipe": self._recipe.to_json(),
            "seed": self._seed,
            # A training may have gone on on another machine.
            "arithmetic": " and ".join(dict.fromkeys(line["arithmetic"] for line in log)),
            "device": " and ".join(dict.fromkeys(line["device"] for line in log)),
            "processes": max(line["processes"] for line in log),
            "recompute": any(line["recompute"] for line in log),
            "torch": str(torch.__version__),
            "seconds": round(sum(line["seconds"] for line in log), 1),
            **more,
        }
        return card_of_weights(self._config, self._dataset, trained=True, training=training)

    def _write(self, step: Step, card: CheckpointCard) -> None:
        with self._run.writing(step, wait=True) as folder:
            write_checkpoint(folder, self._state.model, card)
            (folder / TRAINING_LOG).write_text(lines_of(self._state.log))

    def _bar_text(self, figures: EpochFigures) -> str:
        return f"epoch {self.finished_epochs + 1}/{self._recipe.epochs}  {figures.text()}".rstrip()


def _train(training: _Training, progress: Progress, after_epoch: AfterEpoch) -> CheckpointCard:
    try:
        while not training.is_done:
            training.train_epoch(progress, after_epoch)
        return training.finish()
    except KeyboardInterrupt:
        training.leave_checkpoint()
        raise


def _initial_state(config: ResNetConfig, recipe: Recipe, seed: int, device: torch.device) -> TrainingState:
    model = initialised(config, seed).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    others_decay = recipe.weight_decay if recipe.decay_all else 0.0
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": others_decay},
        ],
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )
    return TrainingState(model, optimizer, torch.Generator().manual_seed(seed))
