"""What a training that goes on keeps in its run directory after every epoch, and takes up again.

    training-state.safetensors   weights and momenta after the last finished epoch, and the random state
    training-state.jsonl         the log so far
    checkpoint.best.*            a checkpoint of the epoch with the best held-out accuracy

The state lies beside the files of a finished training, which stay until the new one ends.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from artifacts import BEST_CHECKPOINT, BEST_CHECKPOINT_CARD, RunDirectory, Step
from errors import UserError
from models.checkpoint import CheckpointCard
from models.resnet import ResNet
from training.checkpoints import write_checkpoint
from training.processes import Processes

STATE = "training-state.safetensors"
STATE_LOG = "training-state.jsonl"
_MODEL = "model."
_MOMENTUM = "momentum."
_GENERATOR = "generator"


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

    with run.writing(_saving(step)) as folder:
        (folder / STATE).write_bytes(save(state.to_tensors()))
        (folder / STATE_LOG).write_text(lines_of(state.log))


def save_best(run: RunDirectory, step: Step, model: ResNet, card: CheckpointCard) -> None:
    """Write the best checkpoint so far."""
    names = (BEST_CHECKPOINT, BEST_CHECKPOINT_CARD)
    with run.writing(Step(step.stage, step.options, (), names)) as folder:
        write_checkpoint(folder, model, card, names)


def load_state(run: RunDirectory) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors and log of the interrupted training in `run`."""
    from safetensors.torch import load_file

    log = run.verified(STATE_LOG).read_text()
    return load_file(run.verified(STATE)), [json.loads(line) for line in log.splitlines()]


def can_resume(run: RunDirectory, step: Step) -> bool:
    """Whether a training with just these options was interrupted in `run`."""
    return run.is_current(_saving(step))


def refuse_to_forget(run: RunDirectory, step: Step) -> None:
    """Raise UserError where a training with other options was interrupted in `run`."""
    if run.is_intact(STATE) and run.is_intact(STATE_LOG) and not can_resume(run, step):
        epochs = len(run.verified(STATE_LOG).read_text().splitlines())
        raise UserError(
            f"{run.path} holds a training with other options, interrupted after epoch {epochs}",
            "repeat its options to go on with it, begin anew with --no-resume, or choose another --run-dir",
        )


def discard_state(run: RunDirectory) -> None:
    """Forget an interrupted training."""
    for name in (STATE, STATE_LOG):
        run.discard(name)


def lines_of(log: list[dict[str, Any]]) -> str:
    """The log as JSON lines."""
    return "".join(json.dumps(line) + "\n" for line in log)


def _saving(step: Step) -> Step:
    return Step(step.stage, step.options, (), (STATE, STATE_LOG))
