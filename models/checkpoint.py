"""A checkpoint is weights (safetensors) plus readable JSON; the model is rebuilt from the JSON.

    checkpoint.safetensors   every parameter and buffer, by its name in `ResNet.state_dict()`
    checkpoint.json          `CheckpointCard`: the configuration, the data it belongs to, its history

Nothing is unpickled, and the weights are loaded strictly.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from artifacts.json_codec import from_json, to_json
from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.run_directory import RunDirectory
from errors import UserError
from models.config import ResNetConfig, resnet_config
from models.resnet import ResNet

FORMAT = 1


@dataclass(frozen=True)
class CheckpointCard:
    """What `checkpoint.json` says of the weights beside it.

    Attributes:
        model: the configuration to rebuild the network from.
        dataset: name of the data set; `classes`, `mean` and `std` (per channel, of pixels in 0..1)
            come from it.
        trained: False for freshly initialised weights, of which no accuracy is claimed.
        training: recipe, seed, epochs done and final figures; empty where not trained here.
    """

    model: ResNetConfig
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained: bool
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def is_interrupted(self) -> bool:
        """Whether these are the weights of a training that was stopped before its last epoch."""
        return self.trained and self.training.get("interrupted", False)

    @property
    def is_finished(self) -> bool:
        """Whether these are the weights of a training that came to its end."""
        return self.trained and not self.is_interrupted

    def to_json(self) -> str:
        """The text of checkpoint.json."""
        return json.dumps({"format": FORMAT, **to_json(self)}, indent=2) + "\n"


def card_from_json(text: str, source: Path) -> CheckpointCard:
    """Parse checkpoint.json.

    Raises:
        UserError: it is not a checkpoint's JSON, or its configuration is not a network.
    """
    try:
        fields = json.loads(text)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        card = from_json(CheckpointCard, fields)
        resnet_config(**to_json(card.model))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source} does not describe a checkpoint ({error})",
            "train again, or restore the file that was written beside the weights",
        ) from error
    if not len(card.mean) == len(card.std) == card.model.in_channels:
        raise UserError(
            f"{source} gives {len(card.mean)} means and {len(card.std)} deviations for "
            f"{card.model.in_channels} channels",
            "restore the file that was written beside the weights",
        )
    if len(card.classes) != card.model.num_classes:
        raise UserError(
            f"{source} names {len(card.classes)} classes for {card.model.num_classes} logits",
            "restore the file that was written beside the weights",
        )
    return card


def bytes_from_weights(model: nn.Module) -> bytes:
    """Parameters and buffers in the safetensors format.

    Returned rather than written, so that a full disk is met by Python's own file writing.
    """
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in model.state_dict().items()})


def model_from_checkpoint(weights: Path, description: Path) -> tuple[ResNet, CheckpointCard]:
    """Rebuild a network, in evaluation mode, from the two files of a checkpoint.

    Raises:
        UserError: a file is missing, is not what its name says, or the weights belong to another
            network than the JSON describes.
    """
    for path in (weights, description):
        if not path.is_file():
            raise UserError(f"{path} does not exist", "a checkpoint is a .safetensors and a .json file")
    card = card_from_json(description.read_text(errors="replace"), description)
    model = ResNet(card.model)
    load_weights(model, weights)
    return model.eval(), card


def model_in(run: RunDirectory) -> tuple[ResNet, CheckpointCard]:
    """The run's network, in evaluation mode, and its card; raises as `RunDirectory.verified`."""
    return model_from_checkpoint(run.verified(CHECKPOINT), run.verified(CHECKPOINT_CARD))


def card_in(run: RunDirectory) -> CheckpointCard:
    """The card of the run's checkpoint alone."""
    path = run.verified(CHECKPOINT_CARD)
    return card_from_json(path.read_text(), path)


def load_weights(model: ResNet, path: Path) -> None:
    """Load safetensors weights strictly.

    Raises:
        UserError: not a safetensors file, or the weights of another network: the message names the
            first tensor that is missing, unexpected or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error})", "restore it or train again"
        ) from error
    difference = _first_difference(model.state_dict(), loaded)
    if difference:
        config = model.config
        raise UserError(
            f"{path} holds the weights of another network than {config.variant} ResNet-{config.depth} "
            f"({config.block}, {config.num_classes} classes): {difference}",
            "give the depth, block and classes it was trained with, or another checkpoint",
        )
    model.load_state_dict(loaded, strict=True)


def _first_difference(own: dict[str, torch.Tensor], loaded: dict[str, torch.Tensor]) -> str | None:
    for name in own:
        if name not in loaded:
            return f"{name} is missing"
        if own[name].shape != loaded[name].shape:
            return f"{name} is {list(loaded[name].shape)}, not {list(own[name].shape)}"
        if loaded[name].is_floating_point() and not torch.isfinite(loaded[name]).all():
            return f"{name} holds values that are not finite"
    unexpected = sorted(loaded.keys() - own.keys())
    return f"{unexpected[0]} has no place" if unexpected else None
