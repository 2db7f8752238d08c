"""skipfold's command line: one thin command a stage.

The only place that prints, shows progress or exits. Heavy packages are imported inside the commands,
so that `--help` is instant. Exit status: 0 done and verified, 1 a check failed, 2 wrong usage or a
missing part, 130 interrupted.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from artifacts.files import environment_errors
from artifacts.names import ANALYSIS_FILES, CHECKPOINT, CHECKPOINT_CARD, MANIFEST
from artifacts.run_directory import RunDirectory
from errors import UserError
from runtimes.engines import ENGINES
from vocabulary import (
    Arithmetic,
    Block,
    BuilderName,
    DatasetName,
    Device,
    Precision,
    Saturation,
    Stream,
    Variant,
)

if TYPE_CHECKING:
    from analysis.network import Measured
    from calibration.plan import Plan
    from data.dataset import Dataset
    from models.checkpoint import CheckpointCard
    from models.config import ResNetConfig
    from progress import Description
    from runtimes.subjects import Subject
    from training.execution import Execution
    from training.recipes import Recipe

RUNS = Path("runs")
# Wide enough for the widest table where there is no terminal to ask.
_PIPED_WIDTH = 150
_INTERRUPTED = 130
DEFAULTS: dict[str, Any] = {"dataset": "digits", "variant": "preact", "depth": 20}

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="CIFAR-style ResNets, original and pre-activation, from training to verified engines.",
)


# What a search times, in the order of its table.
_TIMED = ("ort", "openvino")
_QUANTIZED = {Precision.int8, Precision.fp8}


Engine = StrEnum("Engine", {name: name for name in ENGINES})  # type: ignore[misc]


VariantOption = Annotated[Variant | None, typer.Option("--variant", help="Default: preact.")]
DepthOption = Annotated[
    int | None, typer.Option("--depth", help="Layers with weights: 20, 110, 164, 1001, … Default: 20.")
]
BlockOption = Annotated[
    Block | None, typer.Option("--block", help="Default: the papers' choice for the depth.")
]
DatasetOption = Annotated[DatasetName | None, typer.Option("--dataset", help="Default: digits.")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of parquet files, or of class folders.")
]
RunDirOption = Annotated[Path | None, typer.Option("--run-dir", help="Default: runs/DATASET-VARIANT-DEPTH.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of initialisation, order and augmentation.")]
DeviceOption = Annotated[Device, typer.Option("--device")]
ForceOption = Annotated[bool, typer.Option("--force", help="Redo what is up to date; replace weights.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output; the rest on standard error.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say how long each step took.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads of a call. Default: all cores.")
]
EngineOption = Annotated[
    list[Engine] | None, typer.Option("--engine", help="Repeatable. Default: all that run here.")
]
PrecisionOption = Annotated[
    list[Precision] | None,
    typer.Option("--precision", help="Repeatable. Default: all that the engine computes in."),
]
SecondsOption = Annotated[
    float, typer.Option("--seconds", min=0.01, help="Timing of each engine and batch size.")
]
TargetOption = Annotated[
    str, typer.Option("--target", help="Compute capabilities, e.g. sm86,sm89,sm120 (TensorRT for RTX).")
]
BuilderOption = Annotated[
    BuilderName | None, typer.Option("--builder", help="Default: the one that suits this machine.")
]
MethodOption = Annotated[
    str | None,
    typer.Option("--method", help="minmax, percentile, entropy or mse. Default: percentile."),
]
PercentileOption = Annotated[
    float | None,
    typer.Option("--percentile", help="Per cent of values kept at each end of a range. Default: 99.999."),
]
StreamOption = Annotated[
    Stream | None,
    typer.Option("--stream", help="Skip path of the INT8 graphs; fp16 is for GPUs, on CPUs it is int8 then."),
]
SaturationOption = Annotated[
    Saturation,
    typer.Option(
        "--saturation",
        help="CPUs without VNNI add INT8 products in 16 bits: keep them from overflowing where all "
        "codes are large (stem), everywhere (proved), or nowhere (full).",
    ),
]
ReparametrizeOption = Annotated[
    str | None,
    typer.Option(
        "--reparametrize",
        help="Before quantizing, some of absorb,centre,equalize, or none. Default: absorb,equalize.",
    ),
]
SearchOption = Annotated[
    bool,
    typer.Option(
        "--search",
        help="Find method, reparametrization, stream and the blocks to leave in float, and say if INT8 pays.",
    ),
]
MaxDropOption = Annotated[
    float | None,
    typer.Option(
        "--max-drop", min=0, help="Points of accuracy that INT8 may lose in a search. Default: 0.1."
    ),
]
BiasCorrectionOption = Annotated[
    bool,
    typer.Option(
        "--bias-correction/--no-bias-correction", help="Take the weights' mean rounding error out of biases."
    ),
]
AllowSaturationOption = Annotated[
    bool, typer.Option("--allow-saturation", help="Run a graph of --saturation full on a CPU without VNNI.")
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        "--checkpoint",
        help="Take over FILE.safetensors, with FILE.json beside it: zoo/…, or your own.",
    ),
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="paper, modern, digits or smoke. Default: by data set.")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Instead of the recipe's.")]
PeakRateOption = Annotated[
    float | None, typer.Option("--peak-rate", help="Learning rate, instead of the recipe's.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with an interrupted training, or forget it.")
]
ArithmeticOption = Annotated[
    Arithmetic | None,
    typer.Option("--arithmetic", help="Default: bf16 where the hardware computes in it, else fp32."),
]
RecomputeOption = Annotated[
    bool | None,
    typer.Option(
        "--recompute/--no-recompute",
        help="Activation checkpointing: a third slower, a fraction of the memory. Default: where needed.",
    ),
]
CompileOption = Annotated[bool, typer.Option("--compile", help="torch.compile; pays on GPUs, if at all.")]


class Screen:
    """Where words, tables, bars and the final JSON go.

    Args:
        as_json: one document on standard output, all else on standard error.
        quiet: neither words nor bars.
        verbose: how long each step took.
    """

    def __init__(self, as_json: bool, quiet: bool, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._since = time.perf_counter()

    @cached_property
    def _console(self) -> Any:
        from rich.console import Console

        console = Console(stderr=self.as_json, highlight=False)
        if not console.is_terminal:
            console.width = _PIPED_WIDTH
        return console

    def say(self, step: str, text: str) -> None:
        """One line: the stage and what came of it."""
        now = time.perf_counter()
        if self.verbose:
            text += f" ({now - self._since:.1f} s)"
        self._since = now
        if not self.quiet:
            self._console.print(f"{step:<10} {text}", markup=False, soft_wrap=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]], words: int = 2) -> None:
        """A table: the first `words` columns and the last to the left, figures to the right."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        # Narrow enough for a terminal of 80 columns.
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=0 if len(columns) > 8 else (0, 1, 0, 0),
        )
        for index, name in enumerate(columns):
            left = index < words or name == columns[-1]
            table.add_column(name, justify="left" if left else "right", no_wrap=name != columns[-1])
        for row in rows:
            table.add_row(*row)
        self._console.print(table, markup=False)

    def finish(self, document: dict[str, Any]) -> None:
        """The JSON document, if it was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")

    @contextmanager
    def busy(self, description: str) -> Iterator[None]:
        """A bar without steps, for work of a few seconds that cannot count them."""
        for _ in self.progress([None], description):
            yield

    def progress(
        self, items: Iterable[Any], description: "Description", total: int | None = None
    ) -> Iterator[Any]:
        """Draw a bar while the items are worked through; see `progress.Progress`."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=self.quiet or not console.is_terminal,
        ) as bar:
            text = description if callable(description) else lambda: description
            count = len(items) if total is None and isinstance(items, Sized) else total
            task = bar.add_task(text(), total=count)
            for item in items:
                yield item
                bar.update(task, advance=1, description=text())


@dataclass
class Session:
    """The run a command works on, and the network it is for.

    Attributes:
        seed: for weights that have to be initialised.
    """

    run: RunDirectory
    config: dict[str, Any]
    dataset_name: str
    data_dir: Path | None
    screen: Screen
    seed: int = 0
    force: bool = False
    notes: list[str] = field(default_factory=list)

    @cached_property
    def dataset(self) -> "Dataset":
        from data.load import dataset_from_name

        return dataset_from_name(self.dataset_name, self.data_dir, self.screen.progress)

    @property
    def network(self) -> "ResNetConfig":
        """The configuration asked for, with the data set's classes."""
        from models.config import resnet_config

        return resnet_config(**self.config, num_classes=len(self.dataset.classes))

    @property
    def card(self) -> "CheckpointCard":
        from models.checkpoint import card_in

        return card_in(self.run)

    def document(self, command: str, **more: Any) -> dict[str, Any]:
        """The JSON document of a command."""
        return {"command": command, "run": str(self.run.path), **more}


def _session(
    screen: Screen,
    variant: Variant | None,
    depth: int | None,
    block: Block | None,
    dataset: DatasetName | None,
    data_dir: Path | None,
    run_dir: Path | None,
    newest: bool = True,
    seed: int = 0,
    force: bool = False,
) -> Session:
    """Find the run that the options mean.

    Args:
        newest: without any option that chooses one, work on the run that was written last.
    """
    from models.config import resnet_config

    asked = {"variant": variant, "depth": depth, "dataset": dataset}
    given = {name: getattr(value, "value", value) for name, value in asked.items() if value is not None}
    if run_dir is None and not given and block is None and newest and (found := _newest_run()):
        run_dir = found
        screen.say("run", f"{run_dir}, the newest (--depth, --variant, --dataset or --run-dir choose)")
    known = _known_options(run_dir) if run_dir else {}
    chosen = DEFAULTS | known | given
    config = {
        "variant": chosen["variant"],
        "depth": chosen["depth"],
        "block": block.value if block else known.get("block") if "depth" not in given else None,
    }
    checked = resnet_config(**config)
    run = RunDirectory(run_dir or RUNS / _run_name(chosen["dataset"], checked.variant, checked))
    session = Session(run, config, chosen["dataset"], data_dir, screen, seed, force)
    if CHECKPOINT_CARD in run:
        _require_same_network(session)
    return session


def _run_name(dataset: str, what: str, network: "ResNetConfig") -> str:
    """DATASET-WHAT-DEPTH, with the block where it is not the one the papers use at this depth."""
    from models.config import default_block

    name = f"{dataset}-{what}-{network.depth}"
    return name if network.block == default_block(network.depth) else f"{name}-{network.block}"


def _newest_run() -> Path | None:
    """The network's run that was written last; an analysis is none."""
    manifests = sorted(RUNS.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    runs = (path.parent for path in manifests)
    return next((path for path in runs if RunDirectory(path).recorded() != sorted(ANALYSIS_FILES)), None)


def _known_options(run_dir: Path) -> dict[str, Any]:
    """What the checkpoint in a run directory says it is, if there is one."""
    from models.checkpoint import card_in

    run = RunDirectory(run_dir)
    if not run.is_intact(CHECKPOINT_CARD):
        return {}
    card = card_in(run)
    model = card.model
    return {"dataset": card.dataset, "variant": model.variant, "depth": model.depth, "block": model.block}


def _require_same_network(session: Session) -> None:
    from models.config import resnet_config
    from training.checkpoints import require_same_network

    if session.run.is_intact(CHECKPOINT_CARD):
        card = session.card
        wanted = resnet_config(**session.config, num_classes=card.model.num_classes)
        require_same_network(card, wanted, session.dataset_name, session.run.path)


@app.command()
def train(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    peak_rate: PeakRateOption = None,
    arithmetic: ArithmeticOption = None,
    recompute: RecomputeOption = None,
    compiled: CompileOption = False,
    resume: ResumeOption = True,
    seed: SeedOption = 0,
    device: DeviceOption = Device.cpu,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train a network, or go on with an interrupted training.

    In several processes: torchrun --nproc-per-node 2 cli.py train …
    """
    from training.execution import Execution
    from training.processes import processes_in_environment

    speaks = processes_in_environment().is_first
    screen = Screen(as_json and speaks, quiet or not speaks, verbose)
    session = _session(
        screen, variant, depth, block, dataset, data_dir, run_dir, newest=False, seed=seed, force=force
    )
    execution = Execution(device.value, arithmetic.value if arithmetic else None, recompute, compiled, resume)
    card = _train(session, recipe, epochs, peak_rate, execution)
    screen.finish(session.document("train", **card.training))


@app.command()
def analyze(
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Default: runs/DATASET-analysis-DEPTH.")
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", help="Calibration images in the batch. Default: 16.")
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Measure what the skip path carries forward and backward.

    In both variants, freshly initialised and, where runs/DATASET-VARIANT-DEPTH holds a trained
    checkpoint, after training.
    """
    screen = Screen(as_json, quiet, verbose)
    session = _session(screen, None, depth, block, dataset, data_dir, None, seed=seed, force=force)
    run = RunDirectory(run_dir or RUNS / _run_name(session.dataset_name, "analysis", session.network))
    document = _analyze(session, run, images)
    screen.finish({"command": "analyze", "run": str(run.path), **document})


@app.command()
def export(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    checkpoint: CheckpointOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export to ONNX and audit the skip path."""
    screen = Screen(as_json, quiet, verbose)
    session = _exporting_session(
        screen, variant, depth, block, dataset, data_dir, run_dir, checkpoint, seed, force
    )
    result = _export(session)
    screen.finish(
        session.document(
            "export",
            trained=session.card.trained,
            files=session.run.recorded("model."),
            audit=result.audit.to_json(),
            folded=result.folded,
            kept=result.kept,
            error=result.error,
        )
    )


@app.command()
def calibrate(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    method: MethodOption = None,
    percentile: PercentileOption = None,
    stream: StreamOption = None,
    saturation: SaturationOption = Saturation.stem,
    reparametrize: ReparametrizeOption = None,
    bias_correction: BiasCorrectionOption = True,
    search: SearchOption = False,
    max_drop: MaxDropOption = None,
    allow_saturation: AllowSaturationOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Collect ranges and write the INT8 and FP8 graphs."""
    from calibration.quantizing.qdq import FILES

    screen = Screen(as_json, quiet, verbose)
    if search:
        _refuse_beside_search("--search", method, percentile, reparametrize, stream)
    elif max_drop is not None:
        raise UserError("--max-drop is the limit of a search", "add --search")
    elif allow_saturation:
        raise UserError("--allow-saturation is for what a search runs", "add --search")
    session = _session(screen, variant, depth, block, dataset, data_dir, run_dir, force=force)
    plan = _plan(method, percentile, reparametrize, stream, saturation, bias_correction)
    more = {}
    if search:
        more["search"] = _search(session, plan, max_drop, allow_saturation=allow_saturation)
    else:
        _calibrate(session, plan)
    screen.finish(session.document("calibrate", files=list(FILES.values()), **more))


@app.command()
def build(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    precision: PrecisionOption = None,
    target: TargetOption = "",
    builder: BuilderOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build TensorRT engines; no GPU is needed for RTX."""
    screen = Screen(as_json, quiet, verbose)
    session = _session(screen, variant, depth, block, dataset, data_dir, run_dir, force=force)
    engines = _build(session, precision, target, builder)
    screen.finish(session.document("build", engines=engines))


@app.command()
def verify(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.cpu,
    threads: ThreadsOption = None,
    allow_saturation: AllowSaturationOption = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Only check any ONNX file for INT8 sums that overflow without VNNI."),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare engines with the PyTorch original.

    On the whole test split; exit status 1 if one is out of tolerance.
    """
    screen = Screen(as_json, quiet, verbose)
    if file is not None:
        _verify_file(screen, file)
        return
    session = _session(screen, variant, depth, block, dataset, data_dir, run_dir, force=force)
    subjects = _subjects(session, engine, precision, device)
    rows = _verify(session, subjects, threads, allow_saturation)
    _show_summary(session)
    screen.finish(session.document("verify", rows=rows))
    _exit_if_failed(rows)


@app.command()
def benchmark(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.cpu,
    threads: ThreadsOption = None,
    seconds: SecondsOption = 1.0,
    allow_saturation: AllowSaturationOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Time engines in turns with PyTorch."""
    screen = Screen(as_json, quiet, verbose)
    session = _session(screen, variant, depth, block, dataset, data_dir, run_dir, force=force)
    subjects = _subjects(session, engine, precision, device)
    rows = _benchmark(session, subjects, threads, seconds, allow_saturation)
    _show_latency(screen, rows)
    screen.finish(session.document("benchmark", rows=rows))


@app.command()
def deploy(
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    checkpoint: CheckpointOption = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    peak_rate: PeakRateOption = None,
    method: MethodOption = None,
    percentile: PercentileOption = None,
    stream: StreamOption = None,
    saturation: SaturationOption = Saturation.stem,
    reparametrize: ReparametrizeOption = None,
    bias_correction: BiasCorrectionOption = True,
    max_drop: MaxDropOption = None,
    allow_saturation: AllowSaturationOption = False,
    target: TargetOption = "",
    builder: BuilderOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = Device.cpu,
    threads: ThreadsOption = None,
    seconds: SecondsOption = 1.0,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Do every stage this machine can do, in order.

    What is up to date is not done again. --max-drop searches for the best INT8 graphs, as
    `calibrate --search` does; what a search chose stays until other options or a new network.
    """
    screen = Screen(as_json, quiet, verbose)
    if max_drop is not None:
        _refuse_beside_search("--max-drop", method, percentile, reparametrize, stream)
    if checkpoint is not None and (recipe, epochs, peak_rate) != (None, None, None):
        raise UserError(
            "--from takes weights over, and --recipe, --epochs and --peak-rate train others",
            "leave out --from, or the options of training",
        )
    session = _exporting_session(
        screen, variant, depth, block, dataset, data_dir, run_dir, checkpoint, seed, force
    )
    if checkpoint is None:
        _train_unless_trained(session, recipe, epochs, peak_rate, device)
    _export(session)
    plan = _plan(method, percentile, reparametrize, stream, saturation, bias_correction)
    more = {}
    if max_drop is not None:
        more["search"] = _search(session, plan, max_drop, threads, allow_saturation)
    else:
        _calibrate(session, _planned_before(session, plan))
    _attempt(session, "build", lambda: _build(session, None, target, builder))
    subjects = _deployable(session, device)
    rows = _verify(session, subjects, threads, allow_saturation)
    timed = [s for s in subjects if s.engine != Engine("reference")]
    _benchmark(session, timed, threads, seconds, allow_saturation)
    summary = _report(session)
    _show_summary(session)
    if more:
        screen.say("recommend", more["search"]["recommendation"]["reason"])
    screen.finish(session.document("deploy", skipped=session.notes, **summary.to_json(), **more))
    _exit_if_failed(rows)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Picture files; other sizes are cut and resized.")],
    variant: VariantOption = None,
    depth: DepthOption = None,
    block: BlockOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    engine: Annotated[Engine, typer.Option("--engine")] = Engine("ort"),
    precision: Annotated[Precision, typer.Option("--precision")] = Precision.fp32,
    device: DeviceOption = Device.cpu,
    allow_saturation: AllowSaturationOption = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to show.")] = 3,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify pictures with an artifact."""
    import numpy as np

    from data.dataset import normalised
    from data.images import images_from_files
    from runtimes.subjects import open_subject

    screen = Screen(as_json, quiet)
    pictures = images_from_files(images, "decoding", screen.progress)
    session = _session(screen, variant, depth, block, dataset, data_dir, run_dir)
    subject = _subjects(session, [engine], [precision], device)[0]
    if not session.card.trained:
        screen.say("warning", "the weights are freshly initialised: the classes mean nothing")
    with open_subject(session.run, subject, allow_saturation=allow_saturation) as runtime:
        card = runtime.card
        logits = runtime.infer(normalised(pictures, card.mean, card.std)).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    found = [
        [(card.classes[index], float(share[index])) for index in np.argsort(-share)[:top]] for share in shares
    ]
    screen.table(
        f"{subject.engine} {subject.precision}, {session.run.path}",
        ["image", "class", *([""] * (top > 1))],
        [
            [str(path), f"{guesses[0][0]}  {guesses[0][1]:.1%}"]
            + ([", ".join(f"{name} {share:.1%}" for name, share in guesses[1:])] if top > 1 else [])
            for path, guesses in zip(images, found, strict=True)
        ],
    )
    screen.finish(
        session.document(
            "predict",
            predictions=[
                {"image": str(path), "classes": [{"class": n, "probability": p} for n, p in guesses]}
                for path, guesses in zip(images, found, strict=True)
            ],
        )
    )


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do and what is missing."""
    from workflow.doctor import capabilities

    screen = Screen(as_json, quiet=False)
    machine, found = capabilities()
    screen.say("machine", machine.sentence())
    screen.say("system", machine.system)
    screen.table(
        "What this machine can do",
        ["task", "able", "with", "missing"],
        [[c.task, "yes" if c.able else "no", c.provided_by, c.fix] for c in found],
        words=3,
    )
    screen.finish(
        {"command": "doctor", "machine": machine.to_json(), "capabilities": [vars(c) for c in found]}
    )


def _exporting_session(
    screen: Screen,
    variant: Variant | None,
    depth: int | None,
    block: Block | None,
    dataset: DatasetName | None,
    data_dir: Path | None,
    run_dir: Path | None,
    checkpoint: Path | None,
    seed: int,
    force: bool,
) -> Session:
    """A session for a command that may begin a run, from a checkpoint elsewhere if one is given."""
    if checkpoint is None:
        return _session(
            screen, variant, depth, block, dataset, data_dir, run_dir, newest=False, seed=seed, force=force
        )
    from models.checkpoint import model_from_checkpoint
    from models.config import resnet_config
    from training.checkpoints import checkpoint_from_files, require_same_network

    _, card = model_from_checkpoint(checkpoint, checkpoint.with_suffix(".json"))
    model = card.model
    session = _session(
        screen,
        variant or Variant(model.variant),
        depth or model.depth,
        block or (None if depth else Block(model.block)),
        dataset or DatasetName(card.dataset),
        data_dir,
        run_dir,
        seed=seed,
        force=force,
    )
    asked = resnet_config(**session.config, num_classes=model.num_classes)
    require_same_network(card, asked, session.dataset_name, checkpoint)
    if checkpoint_from_files(session.run, checkpoint, force):
        screen.say("import", f"{checkpoint} -> {session.run.path / CHECKPOINT}")
    else:
        screen.say("import", "up to date")
    return session


def _train(
    session: Session,
    recipe: str | None,
    epochs: int | None,
    peak_rate: float | None,
    execution: "Execution",
) -> "CheckpointCard":
    from training.loop import checkpoint_from_dataset

    chosen = _recipe(session, recipe, epochs, peak_rate)
    screen = session.screen

    def after_epoch(model: Any, line: dict[str, Any]) -> None:
        screen.say(
            "train",
            f"epoch {line['epoch']}/{chosen.epochs}: loss {line['loss']:.4f}, accuracy "
            f"{line['train_accuracy']:.2f} %, held out {line['held_out_accuracy']:.2f} %, "
            f"{line['images_per_s']:,.0f} images/s in {line['arithmetic']}"
            f"{', activations computed twice' if line['recompute'] else ''}",
        )

    card = checkpoint_from_dataset(
        session.run,
        session.network,
        session.dataset,
        chosen,
        session.seed,
        execution,
        session.force,
        screen.progress,
        after_epoch,
    )
    facts = card.training
    screen.say(
        "train",
        f"{card.model.variant} ResNet-{card.model.depth}, {facts['recipe']['epochs']} epochs in "
        f"{facts['seconds']:.0f} s ({facts['arithmetic']}): test accuracy {facts['test_accuracy']:.2f} %",
    )
    return card


def _recipe(session: Session, name: str | None, epochs: int | None, peak_rate: float | None) -> "Recipe":
    from dataclasses import replace

    from training.recipes import default_recipe, recipe_from_name

    chosen = recipe_from_name(name or default_recipe(session.dataset_name), session.config["depth"])
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    if peak_rate is not None:
        chosen = replace(chosen, peak_rate=peak_rate)
    return chosen


def _train_unless_trained(
    session: Session, recipe: str | None, epochs: int | None, peak_rate: float | None, device: Device
) -> None:
    """Weights that are there are deployed as they are, unless training options say otherwise."""
    from training.checkpoints import holds_finished_training
    from training.execution import Execution

    options_given = (recipe, epochs, peak_rate) != (None, None, None)
    if not options_given and not session.force and holds_finished_training(session.run):
        session.screen.say("train", "up to date: the weights in the run directory are used")
    else:
        _train(session, recipe, epochs, peak_rate, Execution(device.value))


def _ensure_checkpoint(session: Session) -> None:
    """Freshly initialised weights where there are none, and a plain word about it."""
    from training.checkpoints import checkpoint_from_initialisation

    if CHECKPOINT not in session.run:
        network, dataset = session.network, session.dataset
        with session.screen.busy("initialising"):
            checkpoint_from_initialisation(session.run, network, dataset, session.seed)
    if not session.card.trained:
        session.screen.say(
            "warning",
            f"no trained checkpoint in {session.run.path}: these are freshly initialised weights, of "
            "which no accuracy is claimed (`train` makes trained ones)",
        )
    elif session.card.is_interrupted:
        session.screen.say(
            "warning",
            f"{session.run.path} holds an interrupted training after epoch "
            f"{session.card.training['epochs_done']} of {session.card.training['recipe']['epochs']} "
            "(`train` goes on with it)",
        )


def _analyze(session: Session, run: RunDirectory, images: int | None) -> dict[str, Any]:
    from analysis.both_variants import DEFAULT_IMAGES, analysis_from_networks
    from analysis.network import measured_from_json
    from errors import CheckFailed
    from models.config import VARIANTS

    network = session.network
    checkpoints = {
        variant: _session(
            session.screen,
            Variant(variant),
            network.depth,
            Block(network.block),
            DatasetName(session.dataset_name),
            session.data_dir,
            None,
        ).run
        for variant in VARIANTS
    }
    document, done = analysis_from_networks(
        run,
        session.dataset,
        network,
        checkpoints,
        DEFAULT_IMAGES if images is None else images,
        session.seed,
        session.force,
        session.screen.progress,
    )
    networks = [measured_from_json(fields) for fields in document["networks"]]
    title = f"ResNet-{network.depth}, {network.block} blocks, {document['images']} images, float64"
    _show_analysis(session.screen, networks, title)
    session.screen.say("analyze", f"{'' if done else 'up to date: '}{run.path}")
    if not all(found.identity_holds for found in networks if found.variant == Variant.preact):
        raise CheckFailed(
            "the skip path of the pre-activation network is no identity", "restore models/blocks.py"
        )
    return document


def _show_analysis(screen: Screen, networks: "list[Measured]", title: str) -> None:
    """A row for each network: the largest errors of eq. 4 and 5, the gradient's ends, means of the rest."""
    from analysis.network import percent

    rows = [(network, network.summary()) for network in networks]
    screen.table(
        title,
        [
            *("network", "weights", "loss", "eq. 4 error", "eq. 5 error", "gradient, first", "last block"),
            *("skip share", "dead a block", "a stage", "eq. 4 and 5"),
        ],
        [
            [
                network.variant,
                "trained" if network.trained else "initialised",
                f"{found['loss']:.3g}",
                *(f"{found[name]:.1e}" for name in ("forward_error", "backward_error")),
                *(f"{found[name]:.2g}" for name in ("first_norm", "last_norm")),
                *(percent(found[name]) for name in ("skip_share", "dead", "dead_to_end")),
                "hold" if network.identity_holds else "do not hold",
            ]
            for network, found in rows
        ],
    )
    if untrained := {n.variant for n in networks} - {n.variant for n in networks if n.trained}:
        names = ", ".join(sorted(untrained))
        screen.say("analyze", f"no trained checkpoint of {names}: only initialised weights")


def _export(session: Session) -> Any:
    from export.graph_from_checkpoint import NARROWED, graph_from_checkpoint, narrowed_from_graph

    _ensure_checkpoint(session)
    with session.screen.busy("exporting"):
        result = graph_from_checkpoint(session.run, session.force)
        for precision in NARROWED:
            narrowed_from_graph(session.run, precision, session.force)
    state = "" if result.done else "up to date: "
    session.screen.say(
        "export",
        f"{state}{result.audit.sentence()}; {result.folded} BN folded, {result.kept} kept; "
        f"{result.error:.1e} from PyTorch",
    )
    return result


def _plan(
    method: str | None,
    percentile: float | None,
    reparametrize: str | None,
    stream: Stream | None,
    saturation: Saturation,
    bias_correction: bool,
) -> "Plan":
    from calibration.plan import Plan
    from calibration.ranges.methods import Method
    from calibration.rewriting.reparametrize import DEFAULT_PASSES, passes_from_names

    return Plan(
        method=Method.from_options(method, percentile),
        passes=DEFAULT_PASSES if reparametrize is None else passes_from_names(reparametrize),
        stream=stream or Stream.int8,
        saturation=saturation,
        correct_bias=bias_correction,
    )


def _refuse_beside_search(option: str, *chosen: object) -> None:
    """What a search finds cannot be given."""
    names = ("--method", "--percentile", "--reparametrize", "--stream")
    if given := [name for name, value in zip(names, chosen, strict=True) if value is not None]:
        raise UserError(
            f"{option} chooses what {', '.join(given)} would set", f"leave out {option} or the rest"
        )


def _planned_before(session: Session, plan: "Plan") -> "Plan":
    """What a search chose for this network, where no option says otherwise."""
    from calibration.plan import Plan
    from calibration.searching.search import chosen_plan

    return (chosen_plan(session.run) or plan) if plan == Plan() else plan


def _search(
    session: Session,
    plan: "Plan",
    max_drop: float | None,
    threads: int | None = None,
    allow_saturation: bool = False,
) -> dict[str, Any]:
    """Search, calibrate as was found, and measure the error of each block."""
    from calibration.plan import plan_from_json
    from calibration.searching.block_error import block_errors_from_ranges
    from calibration.searching.search import DEFAULT_MAX_DROP, search_from_graph

    _ensure_exported(session)
    found, done = search_from_graph(
        session.run,
        session.dataset,
        plan,
        DEFAULT_MAX_DROP if max_drop is None else max_drop,
        threads,
        allow_saturation,
        session.force,
        session.screen.progress,
    )
    chosen = plan_from_json(found["choice"])
    _calibrate(session, chosen)
    block_errors_from_ranges(session.run, session.dataset, chosen, session.force, session.screen.progress)
    _show_search(session.screen, found, done)
    return found


def _show_search(screen: Screen, found: dict[str, Any], done: bool) -> None:
    """The best candidates, the blocks left in float, and what to do."""
    from calibration.searching.search import best_of_each_kind
    from reporting.summary import number

    screen.table(
        "INT8 candidates, the best method of each",
        ["graph", "reparametrization", "method", "dB", "drop", "ort ms", "openvino ms", "float blocks"],
        [
            [
                f"{row['flavour']}, {row['stream']} stream",
                row["reparametrization"],
                row["method"],
                number(row["snr_db"], 1),
                number(row["drop"], 2),
                *("/".join(number(ms, 2) for ms in row["latency_ms"].get(e, {}).values()) for e in _TIMED),
                str(len(row["float_blocks"]) or ""),
            ]
            for row in best_of_each_kind(found)
        ],
        words=3,
    )
    for name in found["choice"]["float_blocks"]:
        screen.say("float", f"{name} stays in float: alone that gains {found['gains_db'][name]:.1f} dB")
    gpu = found["chosen"]["gpu"]
    drop = gpu["drop"]
    over = ", over the limit" if drop is not None and drop > found["max_drop"] else ""
    screen.say("gpu", f"{gpu['stream']} stream by its dB, not timed; drop {number(drop, 2)}{over}")
    if not found["trained"]:
        screen.say("search", "the weights are not trained: ranked by signal to noise alone, no accuracy")
    screen.say("search", f"{'' if done else 'up to date: '}{found['recommendation']['reason']}")


def _calibrate(session: Session, plan: "Plan") -> None:
    from calibration.plan import quantized_from_graph
    from calibration.quantizing.qdq import FILES

    _ensure_exported(session)
    passes, done = quantized_from_graph(
        session.run, session.dataset, plan, session.force, session.screen.progress
    )
    state = "" if done else "up to date: "
    session.screen.say(
        "calibrate",
        f"{state}{len(session.dataset.calibration)} images, {plan.method}, "
        f"{'+'.join(entry.name for entry in passes) or 'as exported'}: {', '.join(FILES.values())}",
    )
    for entry in passes:
        for name, reason in entry.refused.items():
            session.screen.say(entry.name, f"left {name}: {reason}")


def _build(
    session: Session, precisions: list[Precision] | None, target: str, builder: BuilderName | None
) -> list[dict[str, Any]]:
    """Build engines; where no precision is named, all that the targets have."""
    from runtimes.tensorrt.engine_card import card_of_engine
    from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
    from runtimes.tensorrt.targets import precisions_for

    name_of_builder = builder.value if builder else None
    targets = tuple(part.strip() for part in target.split(",") if part.strip())
    offered = precisions_for(targets, name_of_builder)
    chosen = precisions or [Precision(name) for name in offered]
    _ensure_exported(session)
    if _QUANTIZED & set(chosen):
        _ensure_calibrated(session)
    cards = []
    for precision in chosen:
        name, done = engine_from_onnx(
            session.run, precision.value, targets, name_of_builder, session.force, session.screen.progress
        )
        card = card_of_engine(session.run.verified(name))
        counts = ", ".join(f"{n} {kind}" for kind, n in card.convolutions.items())
        session.screen.say(
            "build",
            f"{'' if done else 'up to date: '}{name}, {counts} convolutions, {card.size / 1e6:.1f} MB",
        )
        cards.append({"file": name, **card.to_json()})
    return cards


def _ensure_exported(session: Session) -> None:
    from artifacts.names import MODEL, MODEL_BF16, MODEL_FP16

    if not all(session.run.is_fresh(name) for name in (MODEL, MODEL_FP16, MODEL_BF16)):
        _export(session)


def _ensure_calibrated(session: Session) -> None:
    """Calibrate where that is missing or stale, as it was calibrated before."""
    from calibration.plan import is_quantized, plan_of

    if not is_quantized(session.run):
        _calibrate(session, plan_of(session.run))


def _ensure_built(session: Session, precisions: list[Precision]) -> None:
    from artifacts.names import ENGINE_FOLDER

    run = session.run
    wanted = [
        precision
        for precision in precisions
        if not any(run.is_fresh(name) for name in run.recorded(f"{ENGINE_FOLDER}/{precision.value}."))
    ]
    if wanted:
        _build(session, wanted, "", None)


def _subjects(
    session: Session,
    engines: list[Engine] | None,
    precisions: list[Precision] | None,
    device: Device,
) -> "list[Subject]":
    """What the options ask for, with the artifacts made that are missing."""
    from runtimes.subjects import precisions_of, subject_in

    wanted = engines or [Engine("ort"), Engine("openvino")]
    subjects = []
    for engine in wanted:
        offered = precisions_of(engine.value, ENGINES[engine.value].device(device.value))
        # All that the engines have, where none is named; what is named must be there.
        own = precisions or [Precision(name) for name in offered]
        if engines is None:
            own = [p for p in own if p.value in offered]
        if engine != Engine("torch"):
            _ensure_exported(session)
        if engine != Engine("torch") and _QUANTIZED & set(own):
            _ensure_calibrated(session)
        if engine == Engine("trt"):
            _ensure_built(session, own)
        if CHECKPOINT not in session.run:
            _ensure_checkpoint(session)
        subjects += [subject_in(session.run, engine.value, p.value, device.value) for p in own]
    if not subjects:
        raise UserError("no engine runs that precision here", "see `python cli.py doctor`")
    return subjects


def _deployable(session: Session, device: Device) -> "list[Subject]":
    """The engines of a deployment: all that run here, and what TensorRT would get where it does not."""
    from machine.gpu import gpus

    engines = [Engine("ort"), Engine("openvino")]
    subjects = [
        subject
        for engine in engines
        for subject in _subjects(
            session, [engine], None, Device.cpu if engine == Engine("openvino") else device
        )
    ]
    if gpus():
        found = _attempt(session, "trt", lambda: _subjects(session, [Engine("trt")], None, device))
        return subjects + (found or [])
    session.notes.append(
        "trt: engines are built but not run: no NVIDIA driver or GPU here; their graphs are evaluated "
        "by `reference` instead, without a latency"
    )
    narrow: list[Precision] = [precision for precision in Precision if precision != Precision.fp32]
    return subjects + _subjects(session, [Engine("reference")], narrow, Device.cpu)


def _attempt(session: Session, stage: str, work: Callable[[], Any]) -> Any:
    """Do what a machine may lack the parts for; a stage that cannot run is named with its reason."""
    from errors import CheckFailed

    try:
        return work()
    except CheckFailed:
        raise
    except UserError as error:
        session.notes.append(f"{stage}: {error.problem} ({error.fix})")
        session.screen.say(stage, f"skipped: {error.problem} ({error.fix})")
        return None


def _verify(
    session: Session, subjects: "list[Subject]", threads: int | None, allow_saturation: bool
) -> list[dict[str, Any]]:
    from reporting.summary import saturation_words
    from verification.verify import verdicts_from_artifacts

    rows, done = verdicts_from_artifacts(
        session.run,
        session.dataset,
        subjects,
        threads,
        session.force,
        session.screen.progress,
        allow_saturation,
    )
    good = sum(row["passed"] for row in rows)
    session.screen.say("verify", f"{'' if done else 'up to date: '}{good} of {len(rows)} within tolerance")
    for artifact, found in {row["artifact"]: row.get("saturation") for row in rows}.items():
        if found is not None:
            session.screen.say("saturation", f"{artifact}: {saturation_words(found)}")
    return rows


def _verify_file(screen: Screen, file: Path) -> None:
    """Whether INT8 sums of anyone's file can overflow 16 bits; exit status 1 if that is not ruled out."""
    from graphs.onnx_file import any_graph_from_file
    from graphs.saturation import not_proved_free, saturation_findings

    findings = saturation_findings(any_graph_from_file(file))
    if not findings:
        raise UserError(f"{file} holds no integer convolution", "name a quantized ONNX file")
    unsafe = not_proved_free(findings)
    screen.table(
        f"Sums of two 8-bit products in {file}",
        ["operator", "type", "worst pair", "channel", "16 bits"],
        [
            [
                f.node,
                f.op_type,
                *("–" if n is None else str(n) for n in (f.pair_sum, f.channel)),
                f"{f.verdict}: {f.reason}" if f.reason else f.verdict,
            ]
            for f in findings
        ],
    )
    verdict = f"{len(unsafe)} of {len(findings)} not proved free" if unsafe else "saturation-free"
    screen.say("saturation", verdict)
    screen.finish(
        {
            "command": "verify",
            "file": str(file),
            "saturation_free": not unsafe,
            "operators": [finding.to_json() for finding in findings],
        }
    )
    if unsafe:
        raise typer.Exit(1)


def _benchmark(
    session: Session,
    subjects: "list[Subject]",
    threads: int | None,
    seconds: float,
    allow_saturation: bool,
) -> list[dict[str, Any]]:
    from verification.latency import benchmark_from_artifacts

    rows, done = benchmark_from_artifacts(
        session.run,
        session.dataset,
        subjects,
        threads,
        seconds,
        session.force,
        session.screen.progress,
        allow_saturation,
    )
    session.screen.say(
        "benchmark", f"{'' if done else 'up to date: '}{len(rows)} rows, in turns with PyTorch"
    )
    return rows


def _report(session: Session) -> Any:
    from artifacts.names import REPORT
    from reporting.report import report_from_results

    with session.screen.busy("writing the report"):
        summary = report_from_results(session.run, session.notes)
    session.screen.say("report", str(session.run.path / REPORT))
    return summary


def _show_summary(session: Session) -> None:
    from reporting.summary import COLUMNS, summary_of

    summary = summary_of(session.run)
    model = summary.card.model
    trained = "" if summary.card.trained else ", not trained"
    session.screen.table(
        f"{model.variant} ResNet-{model.depth} on {summary.card.dataset}{trained}",
        COLUMNS,
        [line.cells() for line in summary.lines],
    )
    if summary.measured_elsewhere:
        session.screen.say(
            "warning", f"measured on {summary.measured_elsewhere}, not here: INT8 verdicts hold there"
        )
    for note in session.notes:
        session.screen.say("skipped", note)


def _show_latency(screen: Screen, rows: list[dict[str, Any]]) -> None:
    from reporting.summary import number

    screen.table(
        "Latency of a call, host to host",
        ["engine", "precision", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s", "calls", "over PyTorch"],
        [
            [
                row["engine"],
                row["precision"],
                str(row["batch"]),
                number(row["p50_ms"], 3),
                number(row["p90_ms"], 3),
                number(row["p99_ms"], 3),
                number(row["images_per_s"], 0),
                str(row["calls"]),
                f"{row['speedup']:.2f}×",
            ]
            for row in rows
        ],
    )


def _exit_if_failed(rows: list[dict[str, Any]]) -> None:
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


def _fail(error: UserError) -> NoReturn:
    if "--json" in sys.argv:
        fields = {"problem": error.problem, "fix": error.fix}
        sys.stdout.write(json.dumps({"error": fields}) + "\n")
    sys.stderr.write(f"error: {error.problem}\n  fix: {error.fix}\n")
    sys.exit(error.exit_status)


def main() -> None:
    """Run the command line; the console script `skipfold` and `python cli.py` both start here."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        with environment_errors(Path.cwd()):
            sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        _fail(error)
    except (KeyboardInterrupt, typer.Abort, SystemExit) as stop:
        # Later versions of Typer turn Ctrl-C into an exit of their own.
        if isinstance(stop, SystemExit) and stop.code != _INTERRUPTED:
            raise
        sys.stderr.write("interrupted: nothing is half-written; the same command continues\n")
        sys.exit(_INTERRUPTED)
    except Exception as error:
        # Typer's usage errors derive from click's or, in later versions, from its own copy of it.
        if not hasattr(error, "format_message"):
            raise
        _fail(UserError(error.format_message(), f"see `{Path(sys.argv[0]).name} --help`"))


if __name__ == "__main__":
    main()
