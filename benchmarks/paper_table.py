"""The error table of "Identity Mappings", with the errors of runs beside those of the paper.

    python benchmarks/paper_table.py runs/cifar10-preact-164 … --data "CIFAR-10" [--plot SVG]

The table has one row for each run directory, and a row "not run" for each cell of the paper's table that no
run belongs to. The plot shows the learning curves of the runs. The script trains nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from analysis.curves import COLOURS
from artifacts.names import TRAINING_LOG
from artifacts.run_directory import RunDirectory
from benchmarks.markdown import markdown_table
from errors import UserError
from models.checkpoint import CheckpointCard, card_in
from plots import svg
from training.recipes import RECIPES, recipe_from_name
from vocabulary import DatasetName, Variant

# The test errors on CIFAR-10 in %, by depth and variant, from He et al. 2016, table 3.
PAPER: dict[tuple[int, str], float] = {
    (110, Variant.original): 6.61,
    (110, Variant.preact): 6.37,
    (164, Variant.original): 5.93,
    (164, Variant.preact): 5.46,
    (1001, Variant.original): 7.61,
    (1001, Variant.preact): 4.92,
}
COLUMNS = [
    "depth", "variant", "paper, error %", "here, error %",
    "recipe", "epochs", "seed", "arithmetic", "processes", "hours", "data",
]  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """One finished training.

    Attributes:
        log: one line for each epoch, as in training.jsonl.
    """

    card: CheckpointCard
    log: list[dict[str, Any]]

    @property
    def cell(self) -> tuple[int, str]:
        """Depth and variant, which are the place of the training in the paper's table."""
        return self.card.model.depth, self.card.model.variant


def main() -> None:
    """Print the table and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+", help="run directories of trainings on CIFAR-10")
    parser.add_argument("--data", required=True, help="what the images are, for the last column")
    parser.add_argument("--plot", type=Path, help="SVG file, such as results/training.svg")
    arguments = parser.parse_args()
    trainings = [trained_in(RunDirectory(path)) for path in arguments.run]
    if arguments.plot:
        arguments.plot.write_text(plot(trainings), encoding="utf-8")
    print(markdown_table(COLUMNS, rows(trainings, arguments.data)))


def trained_in(run: RunDirectory) -> Trained:
    """Read a run; raise UserError unless the run holds a finished training on CIFAR-10."""
    card = card_in(run)
    if card.dataset != DatasetName.cifar10 or "test_accuracy" not in card.training:
        raise UserError(
            f"{run.path} holds no finished training on CIFAR-10",
            "leave the run out, or train on --dataset cifar10 to the end",
        )
    return Trained(card, run.json_lines(TRAINING_LOG))


def rows(trainings: Sequence[Trained], data: str) -> list[list[str]]:
    """Return the rows of the paper's cells and of `trainings`, by depth, with the original variant first."""
    cells = sorted({*PAPER, *(training.cell for training in trainings)})
    return [
        row
        for cell in cells
        for row in [_row(training, data) for training in trainings if training.cell == cell]
        or [[*_place(cell), "not run", *["–"] * (len(COLUMNS) - 4)]]
    ]


def _place(cell: tuple[int, str]) -> list[str]:
    return [str(cell[0]), cell[1], f"{PAPER[cell]:.2f}" if cell in PAPER else "–"]


def _row(training: Trained, data: str) -> list[str]:
    facts = training.card.training
    return [
        *_place(training.cell),
        f"{100 - facts['test_accuracy']:.2f}",
        _recipe_name(training.card),
        str(facts["recipe"]["epochs"]),
        str(facts["seed"]),
        facts["arithmetic"],
        str(facts["processes"]),
        f"{facts['seconds'] / 3600:.2g}",
        data,
    ]


def _recipe_name(card: CheckpointCard) -> str:
    """Return the recipe with the same fields, apart from the epochs, or "own" if there is none."""
    fields = {**card.training["recipe"], "epochs": None}
    for name in RECIPES:
        if fields == {**recipe_from_name(name, card.model.depth).to_json(), "epochs": None}:
            return name
    return "own"


def plot(trainings: Sequence[Trained]) -> str:
    """Return the plot of loss and held-out accuracy by epoch, in which deeper networks are darker."""
    depths = sorted({training.card.model.depth for training in trainings})

    def draw(figure: Any) -> None:
        loss, accuracy = figure.subplots(1, 2)
        for training in trainings:
            depth, variant = training.cell
            style = {
                "color": COLOURS[variant],
                "alpha": (1 + depths.index(depth)) / len(depths),
                "marker": ".",
                "label": f"{variant} {depth}",
            }
            epochs = [line["epoch"] for line in training.log]
            loss.plot(epochs, [line["loss"] for line in training.log], **style)
            accuracy.plot(epochs, [line["held_out_accuracy"] for line in training.log], **style)
        for axes, label in ((loss, "training loss"), (accuracy, "held-out accuracy, %")):
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
        loss.legend(fontsize=8)

    return svg(draw, (7.4, 3), transparent=False)


if __name__ == "__main__":
    main()
