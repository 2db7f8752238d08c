"""Training recipes as frozen dataclasses: the command, the expected figure and the cost with each."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError
from training.schedules import OneCycle, Schedule, StepDecay

# From this depth on the papers start at a tenth of the rate.
_DEEP = 110


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum under a schedule.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step, over all processes together.
        peak_rate: the highest learning rate of the schedule.
        schedule: how the rate moves below it.
        nesterov: look ahead along the momentum.
        weight_decay: on convolution and linear weights.
        decay_all: weight decay on BN and biases too.
        label_smoothing: share of the target spread over all classes.
        crop_padding: pixels around an image from which a 32x32 crop is taken at random; 0 for none.
        flip: mirror half of the images left to right.
    """

    epochs: int
    batch_size: int
    peak_rate: float
    schedule: Schedule
    momentum: float
    nesterov: bool
    weight_decay: float
    decay_all: bool
    label_smoothing: float
    crop_padding: int
    flip: bool

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"{self.epochs} epochs train nothing", "give --epochs 1 or more")
        if not 0 < self.peak_rate < math.inf:
            raise UserError(f"{self.peak_rate} is no learning rate", "give --peak-rate a number above 0")

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step 0 <= `step` < `steps`."""
        return self.peak_rate * self.schedule.share(step, steps)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def paper(depth: int) -> Recipe:
    """He et al. 2016, appendix "Implementation Details": 64,000 steps of 128 images.

        python cli.py train --recipe paper --variant preact --depth 164 --dataset cifar10 --data-dir DIR

    Their error in %, original / pre-activation: depth 110 6.61 / 6.37, 164 5.93 / 5.46, 1001 7.61 / 4.92,
    with all 50,000 images trained on; here 1,000 of them are held out. 167 epochs of 383 steps: at the
    rates of results/depth.md half a day at depth 110, a day at 164 and six days at 1001, on two CPU cores.
    """
    return Recipe(
        epochs=167,
        batch_size=128,
        peak_rate=0.1,
        schedule=StepDecay(low_steps=400 if depth >= _DEEP else 0),
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        decay_all=True,
        label_smoothing=0.0,
        crop_padding=4,
        flip=True,
    )


def modern(depth: int) -> Recipe:
    """Photographs, few epochs: `python cli.py train --dataset cifar10 --data-dir DIR --depth 20`.

    Expected error at depth 20: 13.8 % (original 13.6 %) after 25 minutes on one CPU core. Chosen on
    images held out of the training split; results/training.md has what was tried.
    """
    return Recipe(
        epochs=20,
        batch_size=128,
        peak_rate=0.4,
        schedule=OneCycle(warmup=0.2),
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        decay_all=False,
        label_smoothing=0.0,
        crop_padding=4,
        flip=True,
    )


def digits(depth: int) -> Recipe:
    """Handwriting: `python cli.py train --dataset digits --depth 20`.

    A mirrored digit is no digit, so there is no flip; the smaller batch makes up for 1,297 images.
    """
    return Recipe(
        epochs=12,
        batch_size=32,
        peak_rate=0.1,
        schedule=OneCycle(warmup=0.2),
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        decay_all=False,
        label_smoothing=0.0,
        crop_padding=2,
        flip=False,
    )


def smoke(depth: int) -> Recipe:
    """Seconds, to see that everything runs: `python cli.py train --recipe smoke`."""
    return Recipe(
        epochs=1,
        batch_size=64,
        peak_rate=0.05,
        schedule=OneCycle(warmup=0.2),
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        decay_all=False,
        label_smoothing=0.0,
        crop_padding=0,
        flip=False,
    )


RECIPES = {"paper": paper, "modern": modern, "digits": digits, "smoke": smoke}


def default_recipe(dataset: str) -> str:
    """Name of the recipe for a data set."""
    return "digits" if dataset == "digits" else "modern"


def recipe_from_name(name: str, depth: int) -> Recipe:
    """Look a recipe up; UserError lists the names."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe '{name}'", f"use {' or '.join(RECIPES)}")
    return RECIPES[name](depth)
