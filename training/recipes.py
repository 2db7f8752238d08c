"""Training recipes as frozen dataclasses: the command, the expected figure and the cost with each."""

from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any

from errors import UserError


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum under a one-cycle schedule.

    Attributes:
        epochs: passes over the training split.
        peak_rate: learning rate at the end of the warm-up, for `batch_size` images a step.
        warmup: share of all steps in which the rate rises linearly from 0.
        weight_decay: on convolution and linear weights; not on BN and biases.
        label_smoothing: share of the target spread over all classes.
        crop_padding: pixels around an image from which a 32x32 crop is taken at random; 0 for none.
        flip: mirror half of the images left to right.
    """

    epochs: int
    batch_size: int
    peak_rate: float
    warmup: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    crop_padding: int
    flip: bool

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"{self.epochs} epochs train nothing", "give --epochs 1 or more")

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step 0 <= `step` < `steps`: linear warm-up, then half a cosine to 0."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return self.peak_rate * (step + 1) / rise
        return self.peak_rate * (1 + cos(pi * (step - rise) / max(1, steps - rise))) / 2

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def modern() -> Recipe:
    """Photographs, few epochs: `python cli.py train --dataset cifar10 --data-dir DIR --depth 20`."""
    return Recipe(
        epochs=15,
        batch_size=128,
        peak_rate=0.2,
        warmup=0.2,
        momentum=0.9,
        weight_decay=5e-4,
        label_smoothing=0.0,
        crop_padding=4,
        flip=True,
    )


def digits() -> Recipe:
    """Handwriting: `python cli.py train --dataset digits --depth 20`.

    A mirrored digit is no digit, so there is no flip; the smaller batch makes up for 1,297 images.
    """
    return Recipe(
        epochs=12,
        batch_size=32,
        peak_rate=0.1,
        warmup=0.2,
        momentum=0.9,
        weight_decay=5e-4,
        label_smoothing=0.0,
        crop_padding=2,
        flip=False,
    )


def smoke() -> Recipe:
    """Seconds, to see that everything runs: `python cli.py train --recipe smoke`."""
    return Recipe(
        epochs=1,
        batch_size=64,
        peak_rate=0.05,
        warmup=0.2,
        momentum=0.9,
        weight_decay=5e-4,
        label_smoothing=0.0,
        crop_padding=0,
        flip=False,
    )


RECIPES = {"modern": modern, "digits": digits, "smoke": smoke}


def default_recipe(dataset: str) -> str:
    """Name of the recipe for a data set."""
    return "digits" if dataset == "digits" else "modern"


def recipe_from_name(name: str) -> Recipe:
    """Look a recipe up; UserError lists the names."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe '{name}'", f"use {' or '.join(RECIPES)}")
    return RECIPES[name]()
