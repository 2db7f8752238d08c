"""What a training that goes on keeps in its run directory after every epoch, and takes up again.

    training-state.{0,1}.safetensors   after the last finished epoch and the one before: weights, momenta, the
                                       random state, and the log so far
    training-state.jsonl               the log so far, to look at
    training-state.best.*              a checkpoint of the epoch with the best held-out accuracy; becomes
                                       checkpoint.best.* with the end of the training

Even and odd epochs take turns, so that one of them is whole whenever a process is killed. The state lies
beside the files of a finished training, which stay until the new one ends.
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
    """What changes while training.

    Attributes:
        log: a line for each finished epoch.
    """

    model: ResNet
    optimizer: torch.optim.SGD
    generator: torch.Generator
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_best(self) -> bool:
        """Whether no earlier epoch did as well as the last on the held-out images."""
        *earlier, last = [line["held_out_accuracy"] for line in self.log]
        return all(last > accuracy for accuracy in earlier)

    def to_tensors(self) -> dict[str, Tensor]:
        """All but the log, by name."""
        tensors = {_MODEL + name: value.contiguous() for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state[parameter]["momentum_buffer"]
            tensors[_MOMENTUM + name] = momentum.contiguous()
        return tensors | {_GENERATOR: self.generator.get_state()}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite all but the log with what `to_tensors` gave."""
        self.model.load_state_dict(weights_of(tensors))
        for name, parameter in self.model.named_parameters():
            momentum = torch.empty_like(parameter).copy_(tensors[_MOMENTUM + name])
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.generator.set_state(tensors[_GENERATOR])

    def share(self, processes: Processes, device: torch.device) -> int:
        """Give every process what process 0 took up.

        The weights are DistributedDataParallel's to share.

        Returns:
            number of finished epochs.
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
    """The network's state dict among the tensors of a state."""
    return {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}


def save_state(run: RunDirectory, step: Step, state: TrainingState) -> None:
    """Write the state after an epoch."""
    from safetensors.torch import save

    epochs, log = len(state.log), lines_of(state.log)
    name = STATES[epochs % 2]
    with run.writing(Step(step.stage, step.options, (), (name, STATE_LOG)), wait=True) as folder:
        (folder / name).write_bytes(save(state.to_tensors(), {_LOG: log}))
        (folder / STATE_LOG).write_text(log)
    if epochs == 1:
        # The other is that of a training before this one.
        run.discard(STATES[0])


def save_best(run: RunDirectory, step: Step, model: ResNet, card: CheckpointCard) -> None:
    """Keep the best checkpoint so far."""
    with run.writing(Step(step.stage, step.options, (), _BEST), wait=True) as folder:
        write_checkpoint(folder, model, card, _BEST)


def publish_best(run: RunDirectory, step: Step) -> None:
    """Put the best checkpoint beside that of the last epoch.

    There is none where the process was killed while it replaced the best, and no epoch was better since.
    """
    if not all(run.is_intact(name) for name in _BEST):
        return
    best = Step(step.stage, step.options, (), (BEST_CHECKPOINT, BEST_CHECKPOINT_CARD))
    with run.writing(best, wait=True) as folder:
        for name, kept in zip(best.outputs, _BEST, strict=True):
            shutil.copyfile(run.verified(kept), folder / name)


def load_state(run: RunDirectory, step: Step) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
    """Tensors and log of the interrupted training with just these options, if there is one in `run`."""
    from safetensors.torch import load_file

    logs = {path: _log_in(path) for path in _resumable(run, step)}
    if not logs:
        return None
    latest = max(logs, key=lambda path: len(logs[path]))
    return load_file(latest), logs[latest]


def refuse_to_forget(run: RunDirectory, step: Step) -> None:
    """Raise UserError where an interrupted training in `run` cannot be gone on with."""
    if _resumable(run, step):
        return
    there = [name for name in STATES if name in run]
    intact = [name for name in there if run.is_intact(name)]
    ways = "begin anew with `train --no-resume`, or choose another --run-dir"
    if intact:
        epochs = max(len(_log_in(run.path / name)) for name in intact)
        raise UserError(
            f"{run.path} holds a training with other options, interrupted after epoch {epochs}",
            f"repeat its options to go on with it, {ways}",
        )
    if there:
        raise UserError(
            f"the state of the interrupted training in {run.path} is damaged", f"restore {there[0]}, {ways}"
        )


@dataclass(frozen=True)
class Unfinished:
    """A training that was interrupted.

    Attributes:
        network: fields of its `ResNetConfig`.
        dataset: name of its data set; None where the process was killed before it wrote a best checkpoint.
        epochs: how many are finished.
    """

    network: dict[str, Any]
    dataset: str | None
    epochs: int


def unfinished_training(run: RunDirectory) -> Unfinished | None:
    """The interrupted training whose state lies in `run`, if there is one."""
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
    """Forget an interrupted training."""
    run.discard(*STATES, STATE_LOG, *_BEST)


def lines_of(log: list[dict[str, Any]]) -> str:
    """The log as JSON lines."""
    return "".join(json.dumps(line) + "\n" for line in log)


def _log_in(state: Path) -> list[dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(state, "pt") as file:
        return [json.loads(line) for line in file.metadata()[_LOG].splitlines()]


def _resumable(run: RunDirectory, step: Step) -> list[Path]:
    """The intact states of a training with just these options."""
    return [run.path / name for name in STATES if run.is_current(Step(step.stage, step.options, (), (name,)))]
