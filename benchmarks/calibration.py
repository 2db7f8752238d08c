"""Calibration methods side by side on a trained run.

    python benchmarks/calibration.py runs/cifar10-preact-20 --data-dir DIR [--images 3000]

For each method: signal to noise, agreement and accuracy drop against the PyTorch original of the cpu graph
(in ONNX Runtime), of the openvino graph and of the gpu graph with an int8 and an fp16 stream (evaluated on
the CPU). Works on a copy; the run stays as it is.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from calibration.methods import Method
from calibration.qdq import qdq_from_ranges
from calibration.ranges import ranges_from_graph
from calibration.reparametrize import reparametrized_from_graph
from calibration.scheme import Scheme
from data.dataset import Dataset, Split
from data.load import dataset_from_name
from models.checkpoint import card_in
from runtimes.subjects import open_subject, subject_in
from verification.compare import Comparison, compare, logits_of

METHODS = [
    Method("minmax"),
    *(Method("percentile", p) for p in (99.999, 99.99, 99.9)),
    Method("entropy"),
    Method("mse"),
]
GRAPHS = [
    ("cpu", "int8", "ort"),
    ("openvino", "int8", "openvino"),
    ("gpu", "int8", "reference"),
    ("gpu", "fp16", "reference"),
]
COLUMNS = ["variant", "method", "graph", "stream", "dB", "agreement %", "drop"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=3000, help="of the test split")
    arguments = parser.parse_args()
    rows = []
    for path in arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(shutil.copytree(path, Path(folder, "run"))))
            dataset = dataset_from_name(card_in(run).dataset, arguments.data_dir)
            rows += _rows(run, dataset, arguments.images)
    names = " ".join(path.name for path in arguments.run)
    print(f"Command: `python benchmarks/calibration.py {names} --images {arguments.images}`\n")
    print(f"{machine_lines()}\n\n{markdown_table(COLUMNS, rows)}")


def _rows(run: RunDirectory, dataset: Dataset, images: int) -> list[list[str]]:
    part = Split(dataset.test.images[:images], dataset.test.labels[:images])
    with open_subject(run, subject_in(run, "torch", "fp32")) as runtime:
        original = logits_of(runtime, dataset, part, "original")
    rows = []
    for method in METHODS:
        reparametrized_from_graph(run, dataset)
        ranges_from_graph(run, dataset, method)
        for flavour, stream, engine in GRAPHS:
            qdq_from_ranges(run, Scheme(flavour, stream=stream))
            with open_subject(run, subject_in(run, engine, "int8")) as runtime:
                logits = logits_of(runtime, dataset, part, str(method))
            figures = compare(original, logits, part.labels)
            rows.append([card_in(run).model.variant, str(method), flavour, stream, *_cells(figures)])
            print(rows[-1], file=sys.stderr)
    return rows


def _cells(figures: Comparison) -> list[str]:
    return [f"{figures.snr_db:.1f}", f"{figures.agreement:.2f}", f"{figures.drop:.2f}"]


if __name__ == "__main__":
    main()
