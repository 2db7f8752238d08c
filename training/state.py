"""The state of a training, which is written after every epoch and from which the training can be continued.

    training-state.{0,1}.safetensors   the weights, the momenta, the random state and the log after the last
                                       finished epoch, and after the epoch before
    training-state.jsonl               the log so far, for people to read
    training-state.best.*              a checkpoint of the epoch with the best held-out accuracy, which
                                       becomes checkpoint.best.* at the end of the training

Even epochs are written to one file and odd epochs to another, so that one state is whole whenever a process
is killed. The files of an earlier, finished training lie beside the state and stay until the new training
ends.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artifacts.names import BEST_CHECKPOINT, BEST_CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from errors import UserError
from models.checkpoint import CheckpointCard, card_from_json
from models.resnet import ResNet
from training.checkpoints import write_checkpoint
from training.processes import Processes

STATES = ("training-state.0.safetensors", "training-state.1.safetensors")
STATE_LOG = "training-state.jsonl"
_BEST = ("training-state.best.safetensors", "training-state.best.json")
_MODEL = "model."
_MOMENTUM = "momentum."
_GENERATOR = "generator"
_LOG = "log"


@dataclass
class TrainingState:
    """Everything that changes during a training.

    Attributes:
        generator: draws the order of the images and their augmentation.
        log: one line for each finished epoch.
    """

    model: ResNet
    optimizer: torch.optim.SGD
    generator: torch.Generator
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_best(self) -> bool:
        """Whether the last epoch has a higher held-out accuracy than every epoch before."""
        *earlier, last = [line["held_out_accuracy"] for line in self.log]
        return all(last > accuracy for accuracy in earlier)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return weights, momenta and random state by name, without the log."""
        tensors = {_MODEL + name: value.contiguous() for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state[parameter]["momentum_buffer"]
            tensors[_MOMENTUM + name] = momentum.contiguous()
        return tensors | {_GENERATOR: self.generator.get_state()}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite weights, momenta and random state with tensors that `to_tensors` returned."""
        self.model.load_state_dict(weights_of(tensors))
        for name, parameter in self.model.named_parameters():
            momentum = torch.empty_like(parameter).copy_(tensors[_MOMENTUM + name])
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.generator.set_state(tensors[_GENERATOR])

    def share(self, processes: Processes, device: torch.device) -> int:
        """Give every process the momenta and the random state of process 0.

        The weights are left out, because DistributedDataParallel copies them.

        Returns:
            The number of finished epochs.
        """
        finished = processes.agree(len(self.log), device)
        if finished and not processes.is_first:
            for parameter in self.model.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter)
        if finished:
            states = [self.optimizer.state[parameter] for parameter in self.model.parameters()]
            processes.share([state["momentum_buffer"] for state in states])
        drawn = self.generator.get_state().to(device)
        processes.share([drawn])
        self.generator.set_state(drawn.cpu())
        return finished


def weights_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the network among the tensors of a training state."""
    return {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}


def save_state(run: RunDirectory, step: Step, state: TrainingState) -> None:
    """Write the state after an epoch, over the state of the epoch before the last."""
    from safetensors.torch import save

    epochs, log = len(state.log), lines_of(state.log)
    name = STATES[epochs % 2]
    with run.writing(Step(step.stage, step.options, (), (name, STATE_LOG)), wait=True) as folder:
        (folder / name).write_bytes(save(state.to_tensors(), {_LOG: log}))
        (folder / STATE_LOG).write_text(log)
    if epochs == 1:
        # After the first epoch, the state in the file for even epochs belongs to an earlier training.
        run.discard(STATES[0])


def save_best(run: RunDirectory, step: Step, model: ResNet, card: CheckpointCard) -> None:
    """Write the checkpoint of the best epoch so far."""
    with run.writing(Step(step.stage, step.options, (), _BEST), wait=True) as folder:
        write_checkpoint(folder, model, card, _BEST)


def publish_best(run: RunDirectory, step: Step) -> None:
    """Copy the checkpoint of the best epoch beside the checkpoint of the last epoch.

    Nothing is copied if a process was killed while it replaced the best checkpoint, and no later epoch was
    better.
    """
    if not all(run.is_intact(name) for name in _BEST):
        return
    best = Step(step.stage, step.options, (), (BEST_CHECKPOINT, BEST_CHECKPOINT_CARD))
    with run.writing(best, wait=True) as folder:
        for name, kept in zip(best.outputs, _BEST, strict=True):
            shutil.copyfile(run.verified(kept), folder / name)


def load_state(run: RunDirectory, step: Step) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
    """Return tensors and log of an interrupted training with exactly the options of `step`, or None."""
    from safetensors.torch import load_file

    logs = {path: _log_in(path) for path in _resumable(run, step)}
    if not logs:
        return None
    latest = max(logs, key=lambda path: len(logs[path]))
    return load_file(latest), logs[latest]


def refuse_to_forget(run: RunDirectory, step: Step) -> None:
    """Raise UserError if `run` holds an interrupted training that cannot be continued with these options."""
    if _resumable(run, step):
        return
    recorded = [name for name in STATES if name in run]
    intact = [name for name in recorded if run.is_intact(name)]
    ways = "begin anew with `train --no-resume`, or choose another --run-dir"
    if intact:
        epochs = max(len(_log_in(run.path / name)) for name in intact)
        raise UserError(
            f"{run.path} holds a training with other options, interrupted after epoch {epochs}",
            f"repeat the options of that training to continue it, {ways}",
        )
    if recorded:
        raise UserError(
            f"the state of the interrupted training in {run.path} is damaged",
            f"restore {recorded[0]}, {ways}",
        )


@dataclass(frozen=True)
class Unfinished:
    """What is known of an interrupted training.

    Attributes:
        network: the fields of the network's `ResNetConfig`.
        dataset: the name of the data set, or None if the process was killed before it wrote a best
            checkpoint.
        epochs: the number of finished epochs.
    """

    network: dict[str, Any]
    dataset: str | None
    epochs: int


def unfinished_training(run: RunDirectory) -> Unfinished | None:
    """Return the interrupted training whose state lies in `run`, or None without an intact state."""
    states = [name for name in STATES if run.is_intact(name)]
    if not states:
        return None
    latest = max(states, key=lambda name: len(_log_in(run.path / name)))
    card = run.path / _BEST[1]
    return Unfinished(
        network=run.record(latest).options["model"],
        dataset=card_from_json(card.read_text(), card).dataset if run.is_intact(_BEST[1]) else None,
        epochs=len(_log_in(run.path / latest)),
    )


def discard_state(run: RunDirectory) -> None:
    """Remove every file of the state, after which the training cannot be continued."""
    run.discard(*STATES, STATE_LOG, *_BEST)


def lines_of(log: list[dict[str, Any]]) -> str:
    """Return the log as JSON lines."""
    return "".join(json.dumps(line) + "\n" for line in log)


def _log_in(state: Path) -> list[dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(state, "pt") as file:
        return [json.loads(line) for line in file.metadata()[_LOG].splitlines()]


def _resumable(run: RunDirectory, step: Step) -> list[Path]:
    """Return the paths of the intact states of a training with exactly the options of `step`."""
    return [run.path / name for name in STATES if run.is_current(Step(step.stage, step.options, (), (name,)))]
