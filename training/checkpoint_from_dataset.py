"""The stage `train`: it turns a data set into a checkpoint and continues a training that was interrupted.

The stage decides whether there is anything to train, runs the epochs of `training.loop`, and leaves a usable
checkpoint when Ctrl-C stops them. A rerun with the same options continues after the last finished epoch and
ends with the same weights on the same CPU.
"""

from contextlib import AbstractContextManager, nullcontext

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD, TRAINING_LOG
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import CheckpointCard, card_from_json, card_in
from models.config import ResNetConfig
from progress import Progress, silent
from training.checkpoints import refuse_to_replace
from training.execution import ARITHMETIC, ON_CPU, Execution
from training.loop import AfterEpoch, Assignment, TrainingLoop
from training.processes import Processes, process_group
from training.recipes import Recipe
from training.state import refuse_to_forget


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
    """Train a network and write two checkpoints, of the last and of the best epoch, and training.jsonl.

    The best epoch is the one with the highest accuracy on the held-out images. Under torchrun every process
    calls this function, and process 0 alone writes.

    Args:
        seed: decides the initial weights, the order of the images and their augmentation.
        force: replaces a trained checkpoint, whether its options were these or others. An interrupted
            training with these options is continued all the same.
        after_epoch: is called in process 0 with the network and the epoch's line of the log; entries that
            `after_epoch` adds to the line are kept.

    Raises:
        UserError: the run directory holds a trained checkpoint or an interrupted training that was given
            other options, another process trains in the run directory, the device does not exist, or
            another process of this training was lost.
        CheckFailed: the loss or the network's output is not finite. The message names the step and the
            learning rate.
    """
    step = _step(config, dataset, recipe, seed)
    device = execution.torch_device()
    with process_group(device.type) as processes, _nobody_else(run, step, processes):
        wanted = processes.is_first and _is_wanted(run, step, execution, force)
        if not processes.agree(wanted, device):
            card = processes.tell(card_in(run).to_json() if processes.is_first else "")
            return card_from_json(card, run.path / CHECKPOINT_CARD)
        assignment = Assignment(run, step, config, dataset, recipe, seed, execution)
        return _train(TrainingLoop(assignment, processes), progress, after_epoch)


def _train(loop: TrainingLoop, progress: Progress, after_epoch: AfterEpoch) -> CheckpointCard:
    try:
        while not loop.is_done:
            loop.train_epoch(progress, after_epoch)
        return loop.finish()
    except KeyboardInterrupt:
        loop.leave_checkpoint()
        raise


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


def _nobody_else(run: RunDirectory, step: Step, processes: Processes) -> AbstractContextManager[None]:
    return run.alone(step.stage) if processes.is_first else nullcontext()


def _is_wanted(run: RunDirectory, step: Step, execution: Execution, force: bool) -> bool:
    """Return whether there is anything to train, or raise UserError where trained weights would be lost."""
    if not force:
        if run.is_current(step):
            _require_arithmetic(run, execution)
            return False
        refuse_to_replace(run)
    if execution.resume:
        refuse_to_forget(run, step)
    return True


def _require_arithmetic(run: RunDirectory, execution: Execution) -> None:
    """Raise UserError if the weights in `run` were trained in another arithmetic than --arithmetic names."""
    wanted = ARITHMETIC[execution.chosen_arithmetic()]
    trained_in = card_in(run).training["arithmetic"]
    if execution.arithmetic is not None and wanted != trained_in:
        raise UserError(
            f"{run.path} holds weights trained in {trained_in}, not in {wanted}",
            "train again with --force, leave out --arithmetic, or choose another --run-dir",
        )
