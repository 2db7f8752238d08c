"""The INT8 graphs of skipfold and of other tools, made from the same model.onnx and measured in one run.

    python benchmarks/int8_peers.py RUN [RUN…] --data-dir DIR [--images 10000] [--seconds 3]
        [--threads 2] [--modelopt PYTHON]

The script prints a table for each run. FP32 and the INT8 graphs of skipfold run in ONNX Runtime and OpenVINO.
`quantize_static` has a row for the setting with the least noise on the calibration images and, if that is
another setting, a row for the fastest. NNCF (`pip install .[peers]`) runs in OpenVINO. ModelOpt pins other
versions of the packages and therefore runs in a separate environment, whose interpreter --modelopt names.

The column of convolutions counts those of the graph that the runtime executes. PyTorch is the reference of
drop, agreement and signal to noise. × is the time of FP32 in the same runtime over the time of the row. All
rows of all runs are timed in turns, so that the times of any two rows can be compared. The script works on
copies of the runs.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.names import MODEL
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from benchmarks.markdown import machine_lines, markdown_table
from benchmarks.peers import (
    Peer,
    best_and_fastest,
    modelopt_graph,
    nncf_graphs,
    open_peer,
    static_graphs,
)
from calibration.plan import Plan, plan_in, quantized_from_graph
from data.dataset import Dataset, Split
from data.load import dataset_from_name
from export.graph_from_checkpoint import graph_from_checkpoint
from graphs.card import Batch, GraphCard
from graphs.onnx_file import card_from_file
from machine.cpu import adds_products_in_16_bits
from models.checkpoint import card_in
from runtimes.runtime import Runtime
from runtimes.subjects import open_subject, subject_in
from runtimes.timing import Latency, latencies
from verification.compare import Comparison, compare, logits_of_split
from vocabulary import Variant

BATCHES = (1, 32)
ENGINES = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}
FP32, OURS = "FP32", "skipfold"
COLUMNS = ["runtime", "tool", "setting", "convolutions", "top-1 drop", "agreement %", "dB"]
COLUMNS += [heading for batch in BATCHES for heading in (f"b{batch} ms", "×")]


@dataclass(frozen=True, eq=False)
class Contender:
    """A row that is measured: a graph in an open runtime, and how its logits compare with PyTorch's."""

    engine: str
    tool: str
    setting: str
    runtime: Runtime
    figures: Comparison


@dataclass(frozen=True)
class Absence:
    """A row that is not measured, with the reason."""

    engine: str
    tool: str
    reason: str


@dataclass(frozen=True)
class Contest:
    """The rows of one network, and normalised test images [N, 3, 32, 32] for the timing."""

    card: GraphCard
    contenders: list[Contender]
    absent: list[Absence]
    images: Batch

    @property
    def name(self) -> str:
        """The variant, the depth and the data set."""
        return f"{self.card.variant} ResNet-{self.card.depth}, {self.card.dataset}"

    def of(self, engine: str, tool: str) -> list[Contender]:
        """Return the rows of a tool in a runtime."""
        return [row for row in self.contenders if (row.engine, row.tool) == (engine, tool)]


Times = dict[int, dict[Contender, Latency]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=10_000, help="of the test split")
    parser.add_argument("--seconds", type=float, default=3, help="of timing for each row and batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--modelopt", metavar="PYTHON", help="interpreter of an environment with ModelOpt")
    parser.add_argument("--skip-static", action="store_true", help="spare the minutes of quantize_static")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        # The other tools write messages to standard output, which is reserved for the tables.
        with redirect_stdout(sys.stderr):
            contests = [_contest(path, arguments, stack) for path in arguments.run]
            runtimes = {row: row.runtime for contest in contests for row in contest.contenders}
            times = {b: latencies(runtimes, contests[0].images, b, arguments.seconds) for b in BATCHES}
        print(f"Command: `{_command(arguments)}`\n\n{machine_lines()}")
        for contest in contests:
            print(f"\n{_heading(contest)}\n\n{markdown_table(COLUMNS, _rows(contest, times))}")
        lines = [*ratio_lines(contests, times), f"{_other_cpus()}: not measured here"]
        print("\n" + "\n".join(f"- {line}" for line in lines))


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that was given, with DIR and PYTHON instead of the paths of this machine."""
    names = " ".join(path.name for path in arguments.run)
    options = " ".join(f"--{name} {getattr(arguments, name)}" for name in ("images", "seconds", "threads"))
    places = {
        "data-dir": "DIR" if arguments.data_dir else "",
        "modelopt": "PYTHON" if arguments.modelopt else "",
    }
    options += "".join(f" --{name} {place}" for name, place in places.items() if place)
    options += " --skip-static" if arguments.skip_static else ""
    return f"python benchmarks/int8_peers.py {names} {options}"


def _contest(path: Path, arguments: argparse.Namespace, stack: ExitStack) -> Contest:
    """Quantize a copy of the run with every tool, open each graph and compare the graph with PyTorch."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    run = RunDirectory(Path(shutil.copytree(path, folder / "run")))
    dataset = dataset_from_name(card_in(run).dataset, arguments.data_dir)
    graph_from_checkpoint(run)
    quantized_from_graph(run, dataset, plan_in(run) or Plan())
    part = Split(dataset.test.images[: arguments.images], dataset.test.labels[: arguments.images])
    with open_subject(run, subject_in(run, "torch", "fp32"), arguments.threads) as runtime:
        original = logits_of_split(runtime, dataset, part, "original")
    peers, absent = _peers(run, dataset, folder, arguments)
    contenders = []
    for engine, tool, setting, runtime in _unopened(run, peers, arguments.threads):
        print(f"{path.name}: {ENGINES[engine]}, {tool}, {setting}")
        logits = logits_of_split(stack.enter_context(runtime), dataset, part, tool)
        figures = compare(original, logits, part.labels)
        contenders.append(Contender(engine, tool, setting, runtime, figures))
    card = card_from_file(run.verified(MODEL))
    return Contest(card, contenders, absent, dataset.normalised(part.images[: max(BATCHES)]))


def _unopened(run: RunDirectory, peers: list[Peer], threads: int) -> Iterator[tuple[str, str, str, Runtime]]:
    """Yield the engine, the tool, the setting and the unopened runtime of every row."""
    for tool, precision, setting in ((FP32, "fp32", "–"), (OURS, "int8", str(plan_in(run)))):
        for engine in ENGINES:
            yield engine, tool, setting, open_subject(run, subject_in(run, engine, precision), threads)
    card = card_from_file(run.verified(MODEL))
    for peer in peers:
        yield peer.engine, peer.tool, peer.setting, open_peer(peer, card, threads)


def _peers(
    run: RunDirectory, dataset: Dataset, folder: Path, arguments: argparse.Namespace
) -> tuple[list[Peer], list[Absence]]:
    """Quantize with every tool that is available, and name the reason for each that is not."""
    model = run.verified(MODEL)
    images = dataset.normalised(dataset.calibration.images)
    absent: list[Absence] = []
    peers: list[Peer] = []
    if arguments.skip_static:
        absent.append(Absence("ort", "quantize_static", "--skip-static was given"))
    else:
        static = list(static_graphs(model, images, folder))
        peers = best_and_fastest(static, run, dataset, arguments.threads, arguments.seconds)
    if version_of("nncf"):
        peers += nncf_graphs(model, images, folder)
    else:
        absent.append(Absence("openvino", "NNCF", "it is not installed"))
    if arguments.modelopt:
        peers.append(modelopt_graph(arguments.modelopt, model, images, folder))
    else:
        absent.append(Absence("ort", "ModelOpt", "no --modelopt PYTHON was given"))
    return peers, absent


def _other_cpus() -> str:
    """Return the kind of CPU that has other integer kernels than this CPU."""
    return "x86 CPUs with VNNI" if adds_products_in_16_bits() else "x86 CPUs without VNNI"


def _heading(contest: Contest) -> str:
    weights = "trained" if contest.card.trained else "random weights, of which accuracy says nothing"
    images = contest.contenders[0].figures.images
    return f"### {contest.name}\n\nWeights: {weights}; {images} test images."


def _rows(contest: Contest, times: Times) -> list[list[str]]:
    rows = [_cells(contest, contender, times) for contender in contest.contenders]
    blank = ["–"] * (len(COLUMNS) - 3)
    rows += [[ENGINES[a.engine], a.tool, f"not measured: {a.reason}", *blank] for a in contest.absent]
    return rows


def _cells(contest: Contest, row: Contender, times: Times) -> list[str]:
    convolutions = row.runtime.describe()["convolutions"]
    figures = row.figures
    accuracy = [f"{figures.drop:.2f}", f"{figures.agreement:.2f}"] if contest.card.trained else ["–", "–"]
    (baseline,) = contest.of(row.engine, FP32)
    latency = [
        cell
        for batch in BATCHES
        for cell in (f"{times[batch][row].p50_ms:.2f}", f"{_ratio(baseline, row, times[batch]):.2f}")
    ]
    return [
        ENGINES[row.engine],
        row.tool,
        row.setting,
        ", ".join(f"{count} {kind}" for kind, count in sorted(convolutions.items())),
        *accuracy,
        f"{figures.snr_db:.1f}",
        *latency,
    ]


def ratio_lines(contests: list[Contest], times: Times) -> list[str]:
    """Return the ratios that limits are set for.

    The ratios are the times of FP32 over ours, of NNCF over ours, and of the pre-activation variant over the
    original one.
    """
    lines = []
    for contest in contests:
        (ours,) = contest.of("ort", OURS)
        (single,) = contest.of("ort", FP32)
        lines.append(f"{contest.name}, ONNX Runtime, FP32 over ours: {_ratios(single, ours, times)}")
        (ours,) = contest.of("openvino", OURS)
        for peer in contest.of("openvino", "NNCF"):
            ratios = _ratios(peer, ours, times)
            lines.append(f"{contest.name}, OpenVINO, NNCF {peer.setting} over ours: {ratios}")
    for preact, original in _pairs(contests):
        for engine, title in ENGINES.items():
            (ours,), (other,) = preact.of(engine, OURS), original.of(engine, OURS)
            ratios = _ratios(ours, other, times)
            lines.append(f"{preact.name}, {title}, our INT8 over that of the original variant: {ratios}")
    return lines


def _pairs(contests: list[Contest]) -> list[tuple[Contest, Contest]]:
    """Return the pairs of a pre-activation and an original network of the same depth, block and data set."""

    def size(contest: Contest) -> tuple[int, str, str]:
        return contest.card.depth, contest.card.block, contest.card.dataset

    preact = [contest for contest in contests if contest.card.variant == Variant.preact]
    original = [contest for contest in contests if contest.card.variant == Variant.original]
    return [pair for pair in product(preact, original) if size(pair[0]) == size(pair[1])]


def _ratio(numerator: Contender, denominator: Contender, latency: dict[Contender, Latency]) -> float:
    return latency[numerator].p50_ms / latency[denominator].p50_ms


def _ratios(numerator: Contender, denominator: Contender, times: Times) -> str:
    return ", ".join(f"{_ratio(numerator, denominator, times[b]):.2f} at batch {b}" for b in BATCHES)


if __name__ == "__main__":
    main()
