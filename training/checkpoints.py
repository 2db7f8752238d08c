"""The stages `initialise` and `import`, which give a run directory its checkpoint without training."""

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

# 32 images are enough for the statistics of a BN layer, and few enough for depth 1001 on two CPU cores.
_STATISTICS_IMAGES = 32


def checkpoint_from_initialisation(
    run: RunDirectory, config: ResNetConfig, dataset: Dataset, seed: int
) -> CheckpointCard:
    """Write freshly initialised weights, which the card describes as untrained.

    The running statistics of BN are those of 32 calibration images. With the usual mean 0 and variance 1
    every block would double the variance of the stream in evaluation, which overflows float32 long before
    depth 1001.

    Args:
        seed: decides the weights.
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
                    # Without a momentum BN takes the plain average, which for one batch is the statistics of
                    # the batch.
                    module.momentum = None
            with torch.no_grad():
                model(torch.from_numpy(images))
            write_checkpoint(folder, model, new_checkpoint_card(config, dataset, trained=False))
    return card_in(run)


def checkpoint_from_files(run: RunDirectory, weights: Path, force: bool = False) -> bool:
    """Copy a checkpoint into the run: the file `weights`, and the .json file of the same name beside it.

    Returns:
        False if the run already holds this checkpoint and `force` is not given, otherwise True.

    Raises:
        UserError: the files are no checkpoint (see `model_from_checkpoint`), or the run holds other trained
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
    """Return whether the run holds intact weights of a training that was not interrupted."""
    return run.is_intact(CHECKPOINT) and card_in(run).is_finished


def refuse_to_replace(run: RunDirectory) -> None:
    """Raise UserError if the run holds the weights of a finished training."""
    if holds_finished_training(run):
        raise UserError(
            f"{run.path} holds other trained weights",
            "repeat the options of that training, replace them with --force, or choose another --run-dir",
        )


def write_checkpoint(
    folder: Path,
    model: ResNet,
    card: CheckpointCard,
    names: tuple[str, str] = (CHECKPOINT, CHECKPOINT_CARD),
) -> None:
    """Write the weights and their card into `folder`, under the two `names`."""
    weights, description = names
    (folder / weights).write_bytes(bytes_from_weights(model))
    (folder / description).write_text(card.to_json())


def new_checkpoint_card(
    config: ResNetConfig, dataset: Dataset, trained: bool, training: dict[str, object] | None = None
) -> CheckpointCard:
    """Return a card for weights of the network `config` that belong to `dataset`.

    Args:
        trained: whether the weights come from a training.
        training: how the weights were trained and with what result; see `CheckpointCard.training`.
    """
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
    """Raise UserError if `card`, the card of the checkpoint in `place`, is of another network or data."""
    if card.dataset != dataset or card.model != config:
        raise UserError(
            f"{place} holds a {_named(card.model, card.dataset)}, not {_named(config, dataset)}",
            "give the options that the checkpoint was made with, or another --run-dir",
        )


def _named(config: ResNetConfig, dataset: str) -> str:
    size = f"{config.block}, {config.num_classes} classes, {dataset}"
    return f"{config.variant} ResNet-{config.depth} ({size})"
