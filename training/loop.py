"""The epochs of one training, as one of its processes runs them.

The whole training split lies on the device (`training.feed`), so that no step of an epoch waits for the host.
After each epoch process 0 writes the weights, the momenta and the random state (`training.state`). The test
split is evaluated once, after the last epoch, and no choice depends on the result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from artifacts.names import CHECKPOINT_CARD, TRAINING_LOG
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset, Split
from errors import CheckFailed, UserError
from models.checkpoint import CheckpointCard, card_from_json
from models.config import ResNetConfig
from models.resnet import ResNet, initialised
from progress import Progress
from training.checkpoints import holds_finished_training, new_checkpoint_card, write_checkpoint
from training.epoch_figures import EpochFigures
from training.evaluation import accuracy_of
from training.execution import ARITHMETIC, Execution
from training.feed import Batch, Feed
from training.processes import Processes
from training.recipes import Recipe
from training.recompute import activation_bytes, recompute_stages
from training.state import (
    TrainingState,
    discard_state,
    lines_of,
    load_state,
    publish_best,
    save_best,
    save_state,
    weights_of,
)

AfterEpoch = Callable[[ResNet, dict[str, Any]], None]


@dataclass(frozen=True)
class Assignment:
    """What to train, and the run directory that the result belongs to.

    Attributes:
        step: the record of this training in the run's manifest.
        seed: decides the initial weights, the order of the images and their augmentation.
    """

    run: RunDirectory
    step: Step
    config: ResNetConfig
    dataset: Dataset
    recipe: Recipe
    seed: int
    execution: Execution


class TrainingLoop:
    """The epochs of one training in one of its processes, begun anew or continued from the run's state.

    Raises:
        UserError: the device does not exist, the batches are too small for the processes, or torch.compile
            was asked for together with activation checkpointing.
    """

    def __init__(self, assignment: Assignment, processes: Processes) -> None:
        self._assignment, self._processes = assignment, processes
        self._recipe, self._execution = assignment.recipe, assignment.execution
        self._device = self._execution.torch_device()
        self._feed = Feed(assignment.dataset, self._recipe, self._device, processes)
        self._state = _initial_state(assignment, self._device)
        if processes.is_first and self._execution.resume:
            self._continue_from_run()
        self.finished_epochs = self._state.share(processes, self._device)
        self._recomputes = self._choose_recompute()
        network = torch.compile(self._state.model) if self._execution.compiled else self._state.model
        self._network = processes.parallel(network)  # type: ignore[arg-type]
        self._loss = nn.CrossEntropyLoss(label_smoothing=self._recipe.label_smoothing)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch of the recipe is finished."""
        return self.finished_epochs == self._recipe.epochs

    def train_epoch(self, progress: Progress, after_epoch: AfterEpoch) -> None:
        """Train on every training image once, evaluate the held-out images, and write the state in process 0.

        Raises:
            CheckFailed: a loss, or a logit of a held-out image, is not finite.
        """
        figures = EpochFigures(len(self._feed), self._device, self._processes)
        first_step = self.finished_epochs * len(self._feed)
        self._network.train()
        batches = self._feed.epoch(self._state.generator)
        description = partial(self._bar_text, figures)
        for index, batch in enumerate(progress(batches, description, len(self._feed))):
            loss, logits = self._train_step(first_step + index, batch)
            figures.add(loss, logits, batch.labels)
            # Several processes must stop together, so they all go on to the end of the epoch.
            if self._processes.count == 1 and not figures.is_finite:
                break
        figures.gather()
        self._require_finite(figures.losses)
        train_seconds = figures.seconds
        held_out_accuracy = self._accuracy(self._assignment.dataset.calibration)
        if math.isnan(held_out_accuracy):
            # The last step of an epoch can break the weights, and no later loss of the epoch shows that.
            raise self._divergence("the network's output is not finite after", len(self._feed) - 1)
        self.finished_epochs += 1
        if self._processes.is_first:
            self._close_epoch(figures, train_seconds, held_out_accuracy, after_epoch)

    def finish(self) -> CheckpointCard:
        """Measure the test accuracy; process 0 then writes the checkpoint and discards the state."""
        accuracy = self._accuracy(self._assignment.dataset.test)
        run, step = self._assignment.run, self._assignment.step
        if self._processes.is_first:
            card = self._card(epochs_done=self.finished_epochs, test_accuracy=accuracy)
            self._write(step, card)
            publish_best(run, step)
            discard_state(run)
        told = self._processes.tell(card.to_json() if self._processes.is_first else "")
        return card_from_json(told, run.path / CHECKPOINT_CARD)

    def leave_checkpoint(self) -> None:
        """Write the weights of the last finished epoch as a checkpoint, after Ctrl-C.

        A checkpoint of a finished training is left in place, because it is worth more than one of an
        interrupted training.
        """
        run, step = self._assignment.run, self._assignment.step
        interrupted = load_state(run, step) if self._processes.is_first else None
        if interrupted is not None and not holds_finished_training(run):
            tensors, self._state.log = interrupted
            self._state.model.load_state_dict(weights_of(tensors))
            card = self._card(interrupted=True, epochs_done=len(self._state.log))
            self._write(Step(step.stage, {"interrupted": True}, (), step.outputs), card)
            publish_best(run, step)

    def _continue_from_run(self) -> None:
        interrupted = load_state(self._assignment.run, self._assignment.step)
        if interrupted is not None:
            tensors, self._state.log = interrupted
            self._state.take(tensors)

    def _train_step(self, step: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Update the weights from one batch; return its loss (a scalar) and its logits [N, classes]."""
        for group in self._state.optimizer.param_groups:
            group["lr"] = self._recipe.rate_at(step, self._steps)
        with self._execution.autocast():
            logits = self._network(batch.images)
            loss = self._loss(logits.float(), batch.labels) * batch.share
        self._state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._state.optimizer.step()
        return loss, logits

    def _accuracy(self, split: Split) -> float:
        # Each process has BN statistics of the images that it saw. The statistics of process 0 are used,
        # because DistributedDataParallel copies them to all processes with the next training step anyway.
        self._processes.share(list(self._state.model.buffers()))
        return accuracy_of(self._state.model, self._assignment.dataset, split, self._processes)

    def _choose_recompute(self) -> bool:
        """Return whether activations are computed again in the backward pass; if so, prepare the model."""
        wanted = self._execution.recompute
        if wanted is None:
            wanted = self._activations_are_too_much()
        if wanted and self._execution.compiled:
            raise UserError(
                "--compile cannot be combined with activation checkpointing, which this network needs here "
                "or was asked to use",
                "leave out --compile",
            )
        if wanted:
            recompute_stages(self._state.model)
        return wanted

    def _activations_are_too_much(self) -> bool:
        dataset = self._assignment.dataset
        images = torch.from_numpy(dataset.normalised(dataset.train.images[:2])).to(self._device)
        model = self._state.model.train()
        batch_of_process = self._recipe.batch_size // self._processes.count
        activations = activation_bytes(model, images, batch_of_process, self._execution.autocast())
        return self._execution.is_too_much(activations, self._processes.local_count)

    @property
    def _steps(self) -> int:
        return self._recipe.epochs * len(self._feed)

    def _require_finite(self, losses: list[float]) -> None:
        broken = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
        if broken:
            raise self._divergence("the loss is not finite at", broken[0])

    def _divergence(self, what: str, index: int) -> CheckFailed:
        step = self.finished_epochs * len(self._feed) + index
        return CheckFailed(
            f"{what} step {step + 1} of {self._steps}, "
            f"learning rate {self._recipe.rate_at(step, self._steps):.4g}",
            "lower the peak learning rate with --peak-rate",
        )

    def _close_epoch(
        self, figures: EpochFigures, train_seconds: float, held_out_accuracy: float, after_epoch: AfterEpoch
    ) -> None:
        run, step, state = self._assignment.run, self._assignment.step, self._state
        images = self._feed.handed_out
        line = {
            "epoch": self.finished_epochs,
            "loss": figures.loss,
            "train_accuracy": 100 * figures.correct / images,
            "held_out_accuracy": held_out_accuracy,
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
            save_best(run, step, state.model, self._card(epochs_done=self.finished_epochs))
        save_state(run, step, state)

    def _card(self, **more: Any) -> CheckpointCard:
        log = self._state.log
        training = {
            "recipe": self._recipe.to_json(),
            "seed": self._assignment.seed,
            # A training can be continued on another machine, so the card names every arithmetic and device.
            "arithmetic": " and ".join(dict.fromkeys(line["arithmetic"] for line in log)),
            "device": " and ".join(dict.fromkeys(line["device"] for line in log)),
            "processes": max(line["processes"] for line in log),
            "recompute": any(line["recompute"] for line in log),
            "torch": str(torch.__version__),
            "seconds": round(sum(line["seconds"] for line in log), 1),
            **more,
        }
        return new_checkpoint_card(
            self._assignment.config, self._assignment.dataset, trained=True, training=training
        )

    def _write(self, step: Step, card: CheckpointCard) -> None:
        with self._assignment.run.writing(step, wait=True) as folder:
            write_checkpoint(folder, self._state.model, card)
            (folder / TRAINING_LOG).write_text(lines_of(self._state.log))

    def _bar_text(self, figures: EpochFigures) -> str:
        return f"epoch {self.finished_epochs + 1}/{self._recipe.epochs}  {figures.text()}".rstrip()


def _initial_state(assignment: Assignment, device: torch.device) -> TrainingState:
    recipe = assignment.recipe
    model = initialised(assignment.config, assignment.seed)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decay_of_bn_and_biases = recipe.weight_decay if recipe.decay_all else 0.0
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.SGD(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": decay_of_bn_and_biases},
        ],
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )
    return TrainingState(model, optimizer, torch.Generator().manual_seed(assignment.seed))
