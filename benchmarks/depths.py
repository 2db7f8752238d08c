"""The times of all stages that need no trained weights, at depths 164 and 1001 of both variants.

    python benchmarks/depths.py [--depth 164 --depth 1001] [--images 100]

The networks have random weights with measured BN statistics and are calibrated on `digits`. The script prints
the table of `results/depths.md`: the seconds of each stage, the verdict of the audit, and the signal to noise
of the INT8 graphs with PyTorch as the reference. The cpu flavour runs in ONNX Runtime; the gpu flavour is
evaluated on the CPU.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.names import MODEL
from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import Scheme
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_graph
from calibration.rewriting.reparametrize import reparametrized_from_graph
from data.dataset import Dataset, Split
from data.load import dataset_from_name
from export.graph_from_checkpoint import graph_from_checkpoint, narrowed_from_graph
from models.config import VARIANTS, resnet_config
from runtimes.subjects import open_subject, subject_in
from runtimes.tensorrt.engine_card import card_of_engine
from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
from training.checkpoints import checkpoint_from_initialisation
from verification.compare import compare, logits_of_split

COLUMNS = [
    "variant", "depth", "skip path", "export s", "reparametrize s", "calibrate s", "Q/DQ cpu s", "Q/DQ gpu s",
    "engine fp32 s", "fp16 s", "int8 s", "ONNX MB", "engine int8 MB", "int8 cpu dB", "int8 gpu dB",
]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--depth", type=int, action="append", help="repeatable; default 164 and 1001")
    parser.add_argument("--images", type=int, default=100, help="test images for the signal to noise")
    arguments = parser.parse_args()
    dataset = dataset_from_name("digits")
    rows = []
    for depth in arguments.depth or [164, 1001]:
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(_row(RunDirectory(Path(folder)), variant, depth, dataset, arguments.images))
            print(rows[-1], file=sys.stderr)
    print(f"Command: `python {' '.join(sys.argv)}`\n\n{machine_lines()}\n")
    print(markdown_table(COLUMNS, rows))


def _row(run: RunDirectory, variant: str, depth: int, dataset: Dataset, images: int) -> list[str]:
    checkpoint_from_initialisation(run, resnet_config(variant, depth), dataset, seed=0)
    export, seconds = _timed(lambda: graph_from_checkpoint(run))
    _, half = _timed(lambda: narrowed_from_graph(run, "fp16"))
    times = [seconds + half]
    times.append(_timed(lambda: reparametrized_from_graph(run, dataset))[1])
    times.append(_timed(lambda: ranges_from_graph(run, dataset, Method()))[1])
    times += [_timed(lambda f=flavour: qdq_from_ranges(run, Scheme(f)))[1] for flavour in ("cpu", "gpu")]
    names = {}
    for precision in ("fp32", "fp16", "int8"):
        (names[precision], _), seconds = _timed(lambda p=precision: engine_from_onnx(run, p))
        times.append(seconds)
    part = Split(dataset.test.images[:images], dataset.test.labels[:images])
    original = _logits(run, "torch", "fp32", dataset, part)
    noise = [
        compare(original, _logits(run, engine, "int8", dataset, part), part.labels).snr_db
        for engine in ("ort", "reference")
    ]
    return [
        variant,
        str(depth),
        export.audit.sentence().split(":")[0],
        *[f"{t:.1f}" for t in times],
        f"{run.record(MODEL).size / 1e6:.1f}",
        f"{card_of_engine(run.path / names['int8']).size / 1e6:.1f}",
        *[f"{db:.1f}" for db in noise],
    ]


def _logits(run: RunDirectory, engine: str, precision: str, dataset: Dataset, part: Split) -> Any:
    with open_subject(run, subject_in(run, engine, precision)) as runtime:
        return logits_of_split(runtime, dataset, part, engine)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


if __name__ == "__main__":
    main()
