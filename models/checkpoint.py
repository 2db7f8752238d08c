"""The two files of a checkpoint: the weights, and readable JSON from which the network is rebuilt.

    checkpoint.safetensors   every parameter and buffer under the name that `ResNet.state_dict()` gives it
    checkpoint.json          a `CheckpointCard`: the configuration, the data set and how the weights were made

Nothing is unpickled, and a tensor that is missing, unexpected or of another shape is an error.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from artifacts.json_codec import from_json, to_json
from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.run_directory import RunDirectory
from errors import UserError
from models.config import ResNetConfig, resnet_config
from models.resnet import ResNet

FORMAT = 1


@dataclass(frozen=True)
class CheckpointCard:
    """What `checkpoint.json` says about the weights that lie beside it.

    Attributes:
        model: the configuration from which the network is rebuilt.
        dataset: the name of the data set that `classes`, `mean` and `std` come from.
        mean: one value a channel, of pixels in 0..1.
        std: the standard deviations, likewise.
        trained: False for freshly initialised weights, of which no accuracy is claimed.
        training: the recipe, the seed, the number of finished epochs and the final figures. The mapping is
            empty if the weights were not trained by skipfold.
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
        """Whether the weights come from a training that was stopped before the last epoch of its recipe."""
        return self.trained and self.training.get("interrupted", False)

    @property
    def is_finished(self) -> bool:
        """Whether the weights come from a training that finished the last epoch of its recipe."""
        return self.trained and not self.is_interrupted

    def to_json(self) -> str:
        """Return the text of checkpoint.json."""
        return json.dumps({"format": FORMAT, **to_json(self)}, indent=2) + "\n"


def card_from_json(text: str, source: Path) -> CheckpointCard:
    """Return the card that the text of a checkpoint.json describes.

    Args:
        source: the file, which errors name.

    Raises:
        UserError: the text is not the JSON of a checkpoint, there is no network of this configuration, or the
            numbers of means, deviations or classes do not fit the network.
    """
    try:
        fields = json.loads(text)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"another format than {FORMAT}")
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
    """Return the parameters and buffers of a network in the safetensors format.

    The function returns bytes and writes no file, because Python's file writing reports a full disk as an
    OSError, which `RunDirectory` turns into a UserError.
    """
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in model.state_dict().items()})


def model_from_checkpoint(weights: Path, description: Path) -> tuple[ResNet, CheckpointCard]:
    """Rebuild a network in evaluation mode, and its card, from the two files of a checkpoint.

    Args:
        weights: the .safetensors file.
        description: the .json file.

    Raises:
        UserError: a file is missing or cannot be parsed, or the weights belong to another network than the
            one that the JSON describes.
    """
    for path in (weights, description):
        if not path.is_file():
            raise UserError(f"{path} does not exist", "a checkpoint is a .safetensors and a .json file")
    card = card_from_json(description.read_text(errors="replace"), description)
    model = ResNet(card.model)
    load_weights(model, weights)
    return model.eval(), card


def model_in(run: RunDirectory) -> tuple[ResNet, CheckpointCard]:
    """Return the run's network in evaluation mode, and its card.

    Raises:
        UserError: the run holds no intact checkpoint; see `RunDirectory.verified` and
            `model_from_checkpoint`.
    """
    return model_from_checkpoint(run.verified(CHECKPOINT), run.verified(CHECKPOINT_CARD))


def card_in(run: RunDirectory) -> CheckpointCard:
    """Return the card of the run's checkpoint without loading the weights."""
    path = run.verified(CHECKPOINT_CARD)
    return card_from_json(path.read_text(), path)


def load_weights(model: ResNet, path: Path) -> None:
    """Load safetensors weights into a network that has exactly these tensors.

    Raises:
        UserError: the file is not a safetensors file, or holds the weights of another network. The message
            names the first tensor that is missing, unexpected, of another shape or not finite.
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
            "give the --depth, --block and --dataset that the weights were trained with, or another file",
        )
    model.load_state_dict(loaded, strict=True)


def _first_difference(expected: dict[str, Tensor], loaded: dict[str, Tensor]) -> str | None:
    for name, tensor in expected.items():
        if name not in loaded:
            return f"{name} is missing"
        if tensor.shape != loaded[name].shape:
            return f"{name} is {list(loaded[name].shape)}, not {list(tensor.shape)}"
        if loaded[name].is_floating_point() and not torch.isfinite(loaded[name]).all():
            return f"{name} holds values that are not finite"
    unexpected = sorted(loaded.keys() - expected.keys())
    return f"{unexpected[0]} has no place" if unexpected else None
