"""The training recipes, each with the command, the expected figure and the cost."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError
from training.schedules import OneCycle, Schedule, StepDecay
from vocabulary import DatasetName

# From depth 110 on, the papers begin the training at a tenth of the learning rate.
_DEEP = 110


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training computes: SGD with momentum under a schedule.

    Attributes:
        epochs: the number of passes over the training split.
        batch_size: the number of images in a step, over all processes together.
        peak_rate: the highest learning rate of the schedule.
        schedule: gives the share of the peak rate at each step.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: applies to the weights of convolutions and of the linear layer.
        decay_all: whether the weight decay applies to BN and biases too.
        label_smoothing: the share of the target that is spread over all classes.
        crop_padding: the pixels added around an image before a random 32x32 crop is taken; 0 for no crop.
        flip: whether each image is mirrored left to right with probability one half.
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
            raise UserError(f"--epochs {self.epochs} trains nothing", "give --epochs 1 or more")
        if not 0 < self.peak_rate < math.inf:
            raise UserError(
                f"--peak-rate {self.peak_rate} is no learning rate", "give --peak-rate a number above 0"
            )

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of step 0 <= `step` < `steps`."""
        return self.peak_rate * self.schedule.share(step, steps)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def paper(depth: int) -> Recipe:
    """The recipe of He et al. 2016, appendix "Implementation Details": 64,000 steps of 128 images.

        python cli.py train --recipe paper --variant preact --depth 164 --dataset cifar10 --data-dir DIR

    The paper reports these errors of the original and the pre-activation network: 6.61 % and 6.37 % at depth
    110, 5.93 % and 5.46 % at depth 164, 7.61 % and 4.92 % at depth 1001. The authors trained on all 50,000
    images; skipfold holds out 1,000 of them. The recipe has 167 epochs of 383 steps. At the rates of
    results/depth.md they take half a day at depth 110, a day at depth 164 and six days at depth 1001, on two
    CPU cores.
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
    """A recipe for photographs with few epochs.

        python cli.py train --dataset cifar10 --data-dir DIR --depth 20

    The expected error at depth 20 is 13.8 % (13.6 % for the original network) after 25 minutes on one CPU
    core. The recipe was chosen on images held out of the training split; results/training.md has the
    alternatives.
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
    """A recipe for handwritten digits.

        python cli.py train --dataset digits --depth 20

    The recipe does not flip images, because a mirrored digit is no digit. The batches are small, because an
    epoch of 1,297 images would otherwise have few steps.
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
    """A recipe of a few seconds that shows whether everything runs.

    python cli.py train --recipe smoke
    """
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
    """Return the name of the recipe that a data set is trained with unless --recipe names another."""
    return "digits" if dataset == DatasetName.digits else "modern"


def recipe_from_name(name: str, depth: int) -> Recipe:
    """Return the recipe of this name for a network of `depth`, or raise UserError with the known names."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe '{name}'", f"use {' or '.join(RECIPES)}")
    return RECIPES[name](depth)
