"""How much of the signal is left after each stage of quantized networks, with every kind of stream.

    python benchmarks/block_error.py RUN [RUN…] [--data-dir DIR]

The script prints the signal to noise, in dB, of the block outputs at the end of each stage and of the logits.
The float graph is the reference, and the images are 64 training images that no ranges were made from. Each
run needs a checkpoint, trained or untrained. The script works on a copy of the run, which it calibrates with
the defaults.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.names import BLOCK_ERROR
from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from calibration.plan import Plan, quantized_from_graph
from calibration.searching.block_error import block_errors_from_ranges
from data.load import dataset_from_name
from export.graph_from_checkpoint import graph_from_checkpoint
from models.checkpoint import card_in

STAGES = ("stage1", "stage2", "stage3")
COLUMNS = [
    "variant", "depth", "trained", "graph", "stream", "first block", *(f"end of {name}" for name in STAGES),
    "worst block", "logits",
]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    rows = []
    for path in arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(shutil.copytree(path, Path(folder, "run"))))
            rows += _rows(run, arguments.data_dir)
    names = " ".join(path.name for path in arguments.run)
    print(f"Command: `python benchmarks/block_error.py {names}`\n\n{machine_lines()}\n")
    print(markdown_table(COLUMNS, rows))


def _rows(run: RunDirectory, data_dir: Path | None) -> list[list[str]]:
    card = card_in(run)
    dataset = dataset_from_name(card.dataset, data_dir)
    graph_from_checkpoint(run)
    quantized_from_graph(run, dataset, Plan())
    block_errors_from_ranges(run, dataset, Plan())
    series = json.loads((run.path / BLOCK_ERROR).read_text())["series"]
    network = [card.model.variant, str(card.model.depth), "yes" if card.trained else "no"]
    return [[*network, entry["flavour"], entry["stream"], *_cells(entry)] for entry in series]


def _cells(entry: dict[str, Any]) -> list[str]:
    blocks = entry["blocks"]
    ends = [[name for name in blocks if name.startswith(stage)][-1] for stage in STAGES]
    figures = [blocks[name] for name in (next(iter(blocks)), *ends)]
    return [f"{db:.1f}" for db in (*figures, min(blocks.values()), entry["logits_db"])]


if __name__ == "__main__":
    main()
