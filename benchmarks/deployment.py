"""The tables of deployed runs, as Markdown.

    python benchmarks/deployment.py runs/cifar10-preact-20 runs/cifar10-original-20

The script measures nothing. It prints what `deploy` measured and wrote into each run directory, and names the
machine that it runs on. Therefore it must run on the machine that `deploy` ran on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from errors import UserError
from machine.description import this_machine
from reporting.summary import COLUMNS, Summary, summary_of


def main() -> None:
    """Print a table for each run directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+")
    print(machine_lines())
    for path in parser.parse_args().run:
        summary = summary_of(RunDirectory(path))
        if summary.machine != this_machine().to_json():
            raise UserError(
                f"{path} was measured on another machine",
                "run `deploy` on this machine, or print the table on the other machine",
            )
        print(f"\n{_heading(summary)}\n\n{markdown_table(COLUMNS, [line.cells() for line in summary.lines])}")


def _heading(summary: Summary) -> str:
    model, training = summary.card.model, summary.card.training
    return (
        f"### {model.variant} ResNet-{model.depth}, {summary.card.dataset}\n\n"
        f"{training['recipe']['epochs']} epochs in {training['seconds']:.0f} s "
        f"({training['arithmetic']}), seed {training['seed']}; {summary.images} test images."
    )


if __name__ == "__main__":
    main()
