"""Every way a run directory comes by its checkpoint, other than by training."""

from pathlib import Path

import torch

from artifacts.files import sha256_of
from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import (
    CheckpointCard,
    bytes_from_weights,
    card_in,
    model_from_checkpoint,
)
from models.config import ResNetConfig
from models.resnet import ResNet, initialised

# Enough for the statistics of a BN layer, little enough for depth 1001 on two cores.
_STATISTICS_IMAGES = 32


def checkpoint_from_initialisation(
    run: RunDirectory, config: ResNetConfig, dataset: Dataset, seed: int
) -> CheckpointCard:
    """Write freshly initialised weights, recorded as untrained.

    BN's running statistics are those of a batch of calibration images: with mean 0 and variance 1
    every block would double the variance of the stream in evaluation, which overflows float32 long
    before depth 1001.
    """
    step = Step(
        stage="initialise",
        options={"model": config.to_json(), "dataset": dataset.sha256, "seed": seed},
        inputs=(),
        outputs=(CHECKPOINT, CHECKPOINT_CARD),
        packages=("torch",),
    )
    if not run.is_current(step):
        with run.writing(step) as folder:
            model = initialised(config, seed).train()
            images = dataset.normalised(dataset.calibration.images[:_STATISTICS_IMAGES])
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None  # a plain average instead of a moving one
            with torch.no_grad():
                model(torch.from_numpy(images))
            write_checkpoint(folder, model, new_checkpoint_card(config, dataset, trained=False))
    return card_in(run)


def checkpoint_from_files(run: RunDirectory, weights: Path, force: bool = False) -> bool:
    """Take over a checkpoint from elsewhere: `weights` and the .json file of the same name.

    Returns:
        whether anything was done.

    Raises:
        UserError: not a checkpoint, see `model_from_checkpoint`, or the run holds other trained
            weights and `force` is not given.
    """
    description = weights.with_suffix(".json")
    model, card = model_from_checkpoint(weights, description)
    step = Step(
        stage="import",
        options={"weights": sha256_of(weights), "card": sha256_of(description)},
        inputs=(),
        outputs=(CHECKPOINT, CHECKPOINT_CARD),
    )
    if not force:
        if run.is_current(step):
            return False
        refuse_to_replace(run)
    with run.writing(step) as folder:
        write_checkpoint(folder, model, card)
    return True


def holds_finished_training(run: RunDirectory) -> bool:
    """Whether the run has trained weights, and not those an interrupted training left."""
    return run.is_intact(CHECKPOINT) and card_in(run).is_finished


def refuse_to_replace(run: RunDirectory) -> None:
    """Raise UserError where the run holds the weights of a training that was finished."""
    if holds_finished_training(run):
        raise UserError(
            f"{run.path} holds other trained weights",
            "repeat the options they were made with, replace them with --force, or choose another --run-dir",
        )


def write_checkpoint(
    folder: Path,
    model: ResNet,
    card: CheckpointCard,
    names: tuple[str, str] = (CHECKPOINT, CHECKPOINT_CARD),
) -> None:
    """Write both files of a checkpoint into `folder`, the weights and their card."""
    weights, description = names
    (folder / weights).write_bytes(bytes_from_weights(model))
    (folder / description).write_text(card.to_json())


def new_checkpoint_card(
    config: ResNetConfig, dataset: Dataset, trained: bool, training: dict[str, object] | None = None
) -> CheckpointCard:
    """Describe weights that belong to `dataset`."""
    return CheckpointCard(
        model=config,
        dataset=dataset.name,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        trained=trained,
        training=training or {},
    )


def require_same_network(card: CheckpointCard, config: ResNetConfig, dataset: str, place: Path) -> None:
    """Raise UserError where the checkpoint at `place` is not the network that was asked for."""
    if card.dataset != dataset or card.model != config:
        has, wanted = card.model, config
        raise UserError(
            f"{place} holds a {has.variant} ResNet-{has.depth} ({has.block}, {has.num_classes} classes, "
            f"{card.dataset}), not {wanted.variant} ResNet-{wanted.depth} ({wanted.block}, "
            f"{wanted.num_classes} classes, {dataset})",
            "give the options it was made with, or another --run-dir",
        )
