"""Calibration methods, and the ways to keep sums from saturating, compared on trained runs.

    python benchmarks/calibration.py runs/cifar10-preact-20 --data-dir DIR [--images 3000]
        [--compare methods] [--compare saturation]

The script prints signal to noise, agreement and accuracy drop of the cpu graph in ONNX Runtime and of the
openvino graph, with the PyTorch network as the reference. The comparison of methods includes the gpu graph
with an int8 and with an fp16 stream, evaluated on the CPU. Which sums saturate depends on the CPU that the
first lines name; see `tools/without_vnni.py`. The script works on a copy and does not change the run.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from calibration.plan import Plan, quantized_from_graph
from calibration.quantizing.qdq import FILES
from calibration.ranges.methods import Method
from data.dataset import Dataset, Split
from data.load import dataset_from_name
from export.graph_from_checkpoint import graph_from_checkpoint
from graphs.card import Batch
from graphs.onnx_file import any_graph_from_file
from graphs.saturation import not_proved_free, saturation_findings
from models.checkpoint import card_in
from runtimes.subjects import open_subject, subject_in
from verification.compare import Comparison, compare, logits_of_split
from vocabulary import Saturation

METHODS = [
    Method("minmax"),
    *(Method("percentile", p) for p in (99.999, 99.99, 99.9)),
    Method("entropy"),
    Method("mse"),
]
ENGINES = {"cpu": "ort", "openvino": "openvino", "gpu": "reference"}
GRAPHS = [("cpu", "int8"), ("openvino", "int8"), ("gpu", "int8"), ("gpu", "fp16")]
COLUMNS = {
    "methods": ["variant", "method", "graph", "stream", "dB", "agreement %", "drop"],
    "saturation": ["variant", "saturation", "graph", "may saturate", "dB", "agreement %", "drop"],
}


@dataclass(frozen=True)
class Bench:
    """One run, the test images that graphs are compared on, and the logits that PyTorch gives for them."""

    run: RunDirectory
    dataset: Dataset
    part: Split
    original: Batch

    def compared(self, plan: Plan, flavour: str) -> Comparison:
        """Quantize by a plan, and compare the graph of a flavour with the PyTorch network."""
        quantized_from_graph(self.run, self.dataset, plan)
        subject = subject_in(self.run, ENGINES[flavour], "int8")
        # Saturation is allowed, because the table shows how much noise saturating sums add.
        with open_subject(self.run, subject, allow_saturation=True) as runtime:
            logits = logits_of_split(runtime, self.dataset, self.part, str(plan))
        return compare(self.original, logits, self.part.labels)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=3000, help="of the test split")
    parser.add_argument("--compare", choices=COLUMNS, action="append", help="repeatable; default: both")
    arguments = parser.parse_args()
    chosen = arguments.compare or list(COLUMNS)
    rows: dict[str, list[list[str]]] = {what: [] for what in chosen}
    for path in arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            bench = _bench(Path(shutil.copytree(path, Path(folder, "run"))), arguments)
            for what in chosen:
                for row in {"methods": method_rows, "saturation": saturation_rows}[what](bench):
                    rows[what].append(row)
                    print(row, file=sys.stderr)
    names = " ".join(path.name for path in arguments.run)
    compared = "".join(f" --compare {what}" for what in chosen)
    print(f"Command: `python benchmarks/calibration.py {names} --images {arguments.images}{compared}`\n")
    print(machine_lines())
    for what in chosen:
        print(f"\n{markdown_table(COLUMNS[what], rows[what])}")


def _bench(path: Path, arguments: argparse.Namespace) -> Bench:
    run = RunDirectory(path)
    dataset = dataset_from_name(card_in(run).dataset, arguments.data_dir)
    part = Split(dataset.test.images[: arguments.images], dataset.test.labels[: arguments.images])
    graph_from_checkpoint(run)
    with open_subject(run, subject_in(run, "torch", "fp32")) as runtime:
        return Bench(run, dataset, part, logits_of_split(runtime, dataset, part, "original"))


def method_rows(bench: Bench) -> Iterator[list[str]]:
    """Yield one row for each method, graph and stream."""
    variant = card_in(bench.run).model.variant
    for method in METHODS:
        for flavour, stream in GRAPHS:
            figures = bench.compared(Plan(method=method, stream=stream), flavour)
            yield [variant, str(method), flavour, stream, *_cells(figures)]


def saturation_rows(bench: Bench) -> Iterator[list[str]]:
    """Yield one row for each way and graph, with the number of convolutions that may saturate."""
    variant = card_in(bench.run).model.variant
    for saturation in Saturation:
        for flavour in ("cpu", "openvino"):
            figures = bench.compared(Plan(saturation=saturation), flavour)
            findings = saturation_findings(any_graph_from_file(bench.run.path / FILES["int8", flavour]))
            count = f"{len(not_proved_free(findings))} of {len(findings)}"
            yield [variant, saturation, flavour, count, *_cells(figures)]


def _cells(figures: Comparison) -> list[str]:
    return [f"{figures.snr_db:.1f}", f"{figures.agreement:.2f}", f"{figures.drop:.2f}"]


if __name__ == "__main__":
    main()
