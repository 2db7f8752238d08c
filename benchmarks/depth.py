"""Loss, accuracy and gradients of both variants at growing depth, trained in the same way on `digits`.

    python benchmarks/depth.py RUNS [--depth 20 --depth 110 …] [--epochs 3] [--table MD] [--plot SVG]

Every network is trained on the same images in the same order, with the same schedule and the same number of
steps. The runs lie in the folder RUNS. Finished runs are not trained again, and interrupted trainings are
continued. The gradients before and after training are those of `python cli.py analyze`. Without --table the
page is printed.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from analysis.both_variants import analysis_from_networks
from analysis.curves import COLOURS, curves
from analysis.network import Measured, percent
from artifacts.names import TRAINING_LOG
from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from data.dataset import Dataset
from data.load import dataset_from_name
from errors import CheckFailed
from models.config import VARIANTS, resnet_config
from models.resnet import ResNet
from plots import svg
from training.checkpoint_from_dataset import checkpoint_from_dataset
from training.evaluation import accuracy_of
from training.execution import Execution
from training.recipes import Recipe, recipe_from_name
from training.schedules import OneCycle

DEPTHS = (20, 110, 164, 1001)
COLUMNS = [
    "depth", "variant", "training loss by epoch", "test accuracy by epoch, %", "s an epoch",
    "gradient at the first / last block, initialised", "trained",
    "skip share, trained", "dead a stage, trained",
]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The training of one network, and the measurements before and after.

    Attributes:
        log: one line for each epoch, with `test_accuracy`.
        trained: None if the network could not be trained to the end.
        failure: why the network could not be trained to the end.
    """

    depth: int
    variant: str
    log: list[dict[str, Any]]
    initialised: Measured
    trained: Measured | None
    failure: str | None = None


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the run directories, which is kept")
    parser.add_argument("--depth", type=int, action="append", help=f"repeatable; default {DEPTHS}")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="Markdown file, such as results/depth.md")
    parser.add_argument("--plot", type=Path, help="SVG file, such as results/depth.svg")
    arguments = parser.parse_args()
    dataset = dataset_from_name("digits")
    results = []
    for depth in arguments.depth or DEPTHS:
        results += results_at(depth, arguments.runs, dataset, recipe(depth, arguments.epochs), arguments.seed)
    if arguments.plot:
        arguments.plot.write_text(plot(results), encoding="utf-8")
    page = page_of(results, arguments.plot)
    if arguments.table:
        arguments.table.write_text(page, encoding="utf-8")
    else:
        print(page)


def recipe(depth: int, epochs: int) -> Recipe:
    """Return the recipe of all depths.

    The rate rises to 0.05 during the first epoch and falls along half a cosine. The batches have 32 images,
    and no image is augmented.
    """
    return replace(
        recipe_from_name("digits", depth),
        epochs=epochs,
        peak_rate=0.05,
        schedule=OneCycle(warmup=1 / epochs),
        crop_padding=0,
    )


def results_at(depth: int, runs: Path, dataset: Dataset, recipe: Recipe, seed: int) -> list[Result]:
    """Train both variants unless they are trained already, and measure them before and after training."""
    directories = {variant: RunDirectory(runs / f"digits-{variant}-{depth}") for variant in VARIANTS}
    failures = {
        variant: train(run, variant, depth, dataset, recipe, seed) for variant, run in directories.items()
    }
    analysis, _ = analysis_from_networks(
        RunDirectory(runs / f"digits-analysis-{depth}"),
        dataset,
        resnet_config(VARIANTS[0], depth, num_classes=len(dataset.classes)),
        {variant: run for variant, run in directories.items() if failures[variant] is None},
        seed=seed,
    )
    return [
        Result(
            depth,
            variant,
            run.json_lines(TRAINING_LOG) if failures[variant] is None else [],
            next(n for n in analysis.networks if n.variant == variant and not n.trained),
            next((n for n in analysis.networks if n.variant == variant and n.trained), None),
            failures[variant],
        )
        for variant, run in directories.items()
    ]


def train(
    run: RunDirectory, variant: str, depth: int, dataset: Dataset, recipe: Recipe, seed: int
) -> str | None:
    """Train one network; return None, or the problem if the loss stops being finite."""

    def measure_accuracy(model: ResNet, line: dict[str, Any]) -> None:
        line["test_accuracy"] = accuracy_of(model, dataset, dataset.test)
        print(f"{variant} {depth}: {json.dumps(line)}", file=sys.stderr, flush=True)

    config = resnet_config(variant, depth, num_classes=len(dataset.classes))
    try:
        # The training uses float32 on every machine, because bfloat16 would round the sums along 1,001
        # layers.
        checkpoint_from_dataset(
            run, config, dataset, recipe, seed, Execution(arithmetic="fp32"), after_epoch=measure_accuracy
        )
    except CheckFailed as error:
        return error.problem
    return None


def page_of(results: Sequence[Result], plot: Path | None) -> str:
    """Return the Markdown page with the machine, the plot and the table."""
    picture = f"![Loss, accuracy and gradient by depth]({plot.name})\n\n" if plot else ""
    return (
        "# Depth: both variants trained alike\n\n"
        f"Command: `python {shlex.join(sys.argv)}`\n\n{machine_lines()}\n\n"
        f"{picture}{markdown_table(COLUMNS, [cells(result) for result in results])}\n"
    )


def cells(result: Result) -> list[str]:
    """Return a row of the table, with one cell for each of `COLUMNS`."""
    start, end = result.initialised.summary(), result.trained.summary() if result.trained else None
    log = result.log
    return [
        str(result.depth),
        result.variant,
        result.failure or ", ".join(f"{line['loss']:.3g}" for line in log),
        ", ".join(f"{line['test_accuracy']:.1f}" for line in log) or "–",
        f"{sum(line['seconds'] for line in log) / len(log):.0f}" if log else "–",
        f"{start['first_norm']:.2g} / {start['last_norm']:.2g}",
        f"{end['first_norm']:.2g} / {end['last_norm']:.2g}" if end else "–",
        percent(end["skip_share"]) if end else "–",
        percent(end["dead_to_end"]) if end else "–",
    ]


def plot(results: Sequence[Result]) -> str:
    """Return a plot with a column for each depth: loss and test accuracy by epoch, gradient norm by block."""
    depths = list(dict.fromkeys(result.depth for result in results))

    def draw(figure: Any) -> None:
        rows = figure.subplots(3, len(depths), sharey="row", squeeze=False)
        for column, depth in enumerate(depths):
            at_depth = [result for result in results if result.depth == depth]
            _column([row[column] for row in rows], f"depth {depth}", at_depth)
        for axes, label in zip(
            rows[:, 0], ("training loss", "test accuracy, %", "gradient norm at a block"), strict=True
        ):
            axes.set_ylabel(label)
        rows[0, 0].legend(fontsize=8)
        rows[2, 0].legend(fontsize=7)

    return svg(draw, (2.6 * len(depths) + 0.6, 6.6), transparent=False)


def _column(axes: Sequence[Any], title: str, results: Sequence[Result]) -> None:
    loss, accuracy, gradient = axes
    loss.set_title(title, fontsize=10)
    for result in results:
        epochs = [line["epoch"] for line in result.log]
        style = {"color": COLOURS[result.variant], "marker": ".", "label": result.variant}
        loss.plot(epochs, [line["loss"] for line in result.log], **style)
        accuracy.plot(epochs, [line["test_accuracy"] for line in result.log], **style)
    networks = [n for result in results for n in (result.initialised, result.trained) if n]
    curves(gradient, networks, lambda row: row.norm or None)
    for scaled in (loss, gradient):
        scaled.set_yscale("log")
    accuracy.set_ylim(0, 100)
    for by_epoch in (loss, accuracy):
        by_epoch.set_xticks(sorted({line["epoch"] for result in results for line in result.log}))
    accuracy.set_xlabel("epoch")
    gradient.set_xlabel("block")


if __name__ == "__main__":
    main()
