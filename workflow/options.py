"""What a user may choose, in groups: the parameters of the commands, and of their functions in Python.

Every field is None, or False for a switch, where the user said nothing. A default is filled in where the
value is used, so that an option that was given is never mistaken for one that was not: `--seed 0` is a
choice, and no seed is none. `commands.flatten` reads the names and the help texts for the command line.

Longer than 300 lines because the options of every command stand here, so that no two of them differ in words.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtimes.engines import ENGINES, TIMED
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

# What `benchmark --engine` takes in place of a name.
EVERY_ENGINE = "all"


@dataclass(frozen=True)
class Flag:
    """How a field is given on the command line.

    Attributes:
        names: such as "--run-dir"; "--this/--not-that" for both values of a switch. None makes the field a
            positional argument.
        help: for `--help`.
        choices: the words that are allowed, where the field's type is plain text.
        least: the smallest number that is allowed.
        hidden: whether `--help` passes over the field.
    """

    names: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    hidden: bool = False


def flag(*names: str, help: str, **more: Any) -> Any:
    """A field of an option group that is unset by default; `more` as in `Flag`."""
    return field(default=None, metadata={"flag": Flag(names, help, **more)})


def switch(*names: str, help: str) -> Any:
    """A field of an option group that is False by default."""
    return field(default=False, metadata={"flag": Flag(names, help)})


@dataclass(frozen=True)
class NetworkOptions:
    """Which network is meant, of whichever variant."""

    depth: int | None = flag("--depth", help="Layers with weights: 20, 110, 164, 1001, … Default: 20.")
    block: Block | None = flag("--block", help="Default: the papers' choice for the depth.")
    dataset: DatasetName | None = flag("--dataset", help="Default: digits.")
    data_dir: Path | None = flag("--data-dir", help="Folder of parquet files, or of class folders.")


@dataclass(frozen=True)
class RunOptions(NetworkOptions):
    """Which run a command works on; without any of these, the newest run or the default network."""

    variant: Variant | None = flag("--variant", help="Default: preact.")
    run_dir: Path | None = flag("--run-dir", help="Default: runs/DATASET-VARIANT-DEPTH.")

    @property
    def choose_nothing(self) -> bool:
        """Whether no option says which run is meant; --data-dir says only where the pictures lie."""
        return replace(self, data_dir=None) == RunOptions()


@dataclass(frozen=True)
class AnalyzeOptions(NetworkOptions):
    """Which networks are analyzed, and on how many images."""

    run_dir: Path | None = flag("--run-dir", help="Default: runs/DATASET-analysis-DEPTH.")
    images: int | None = flag("--images", help="Calibration images in the batch. Default: 16.")
    seed: int | None = flag("--seed", help="Of the initialised weights. Default: 0.")


@dataclass(frozen=True)
class SeedOptions:
    """The seed of a training."""

    seed: int | None = flag("--seed", help="Of initialisation, order and augmentation. Default: 0.")


@dataclass(frozen=True)
class WeightsOptions(SeedOptions):
    """Where a run's weights come from."""

    checkpoint: Path | None = flag(
        "--from",
        "--checkpoint",
        help="Take over FILE.safetensors, with FILE.json beside it: zoo/…, or your own.",
    )


@dataclass(frozen=True)
class TrainingOptions:
    """What a training computes; see `training.recipes.Recipe`."""

    recipe: str | None = flag("--recipe", help="paper, modern, digits or smoke. Default: by data set.")
    epochs: int | None = flag("--epochs", help="Instead of the recipe's.")
    peak_rate: float | None = flag("--peak-rate", help="Learning rate, instead of the recipe's.")

    @property
    def choose_nothing(self) -> bool:
        """Whether everything is left to the data set's default recipe."""
        return self == TrainingOptions()


@dataclass(frozen=True)
class ExecutionOptions:
    """How a training is run; see `training.execution.Execution`."""

    arithmetic: Arithmetic | None = flag(
        "--arithmetic", help="Default: bf16 where the hardware computes in it, else fp32."
    )
    recompute: bool | None = flag(
        "--recompute/--no-recompute",
        help="Activation checkpointing: a third slower, a fraction of the memory. Default: where needed.",
    )
    compiled: bool = switch("--compile", help="torch.compile; pays on GPUs, if at all.")
    resume: bool | None = flag(
        "--resume/--no-resume", help="Go on with an interrupted training, or forget it. Default: go on."
    )


@dataclass(frozen=True)
class QuantizeOptions:
    """How the INT8 and FP8 graphs are made; see `calibration.plan.Plan`."""

    method: str | None = flag("--method", help="minmax, percentile, entropy or mse. Default: percentile.")
    percentile: float | None = flag(
        "--percentile", help="Per cent of values kept at each end of a range. Default: 99.999."
    )
    stream: Stream | None = flag(
        "--stream",
        help="Skip path of the INT8 graphs; fp16 is for GPUs, on CPUs it is int8 then. Default: int8.",
    )
    saturation: Saturation | None = flag(
        "--saturation",
        help="CPUs without VNNI add INT8 products in 16 bits: keep them from overflowing where all "
        "codes are large (stem), everywhere (proved), or nowhere (full). Default: stem.",
    )
    reparametrize: str | None = flag(
        "--reparametrize",
        help="Before quantizing, some of absorb,centre,equalize, or none. Default: absorb,equalize.",
    )
    bias_correction: bool | None = flag(
        "--bias-correction/--no-bias-correction",
        help="Take the weights' mean rounding error out of biases. Default: do.",
    )

    @property
    def choose_nothing(self) -> bool:
        """Whether everything is left to the defaults, or to what a search chose."""
        return self == QuantizeOptions()


@dataclass(frozen=True)
class LimitOptions:
    """Whether `deploy` searches, and within what limit."""

    max_drop: float | None = flag(
        "--max-drop",
        help="Search for the best INT8 graphs that lose at most so many points of accuracy. "
        "Default: no search.",
        least=0,
    )


@dataclass(frozen=True)
class SearchOptions(LimitOptions):
    """Whether `calibrate` searches, and within what limit."""

    search: bool = switch(
        "--search",
        help="Find method, reparametrization, stream and the blocks to leave in float, and say if INT8 pays.",
    )
    max_drop: float | None = flag(
        "--max-drop", help="Points of accuracy that INT8 may lose in a search. Default: 0.1.", least=0
    )


@dataclass(frozen=True)
class BuildOptions:
    """For which GPUs engines are built, by which TensorRT, and how; see `runtimes.tensorrt.plan_options`."""

    target: str | None = flag(
        "--target", help="Compute capabilities, e.g. sm86,sm89,sm120 (TensorRT for RTX)."
    )
    builder: BuilderName | None = flag("--builder", help="Default: the one that suits this machine.")
    batches: list[str] | None = flag(
        "--batches",
        help="Batch sizes MIN:OPT:MAX that a profile serves. Repeatable. Default: 1:1:1 and 1:32:128.",
    )
    tf32: bool = switch("--tf32", help="Let float32 convolutions round to 10 bits of mantissa.")
    optimization_level: int | None = flag(
        "--optimization-level", help="0 builds fast, 5 searches long (TensorRT).", least=0
    )
    workspace: str | None = flag(
        "--workspace", help="Memory that a kernel may use for itself, e.g. 512M or 2G. Default: no limit."
    )
    timing_cache: Path | None = flag(
        "--timing-cache", help="File that keeps how long kernels took, for the next build (TensorRT)."
    )
    version_compatible: bool = switch(
        "--version-compatible", help="Later versions of TensorRT can run the engine (TensorRT)."
    )
    hardware_compatible: str | None = flag(
        "--hardware-compatible",
        help="GPUs beside this one can run the engine: all since Ampere, or of the same compute capability "
        "(TensorRT).",
        choices=("ampere", "same"),
    )
    refit: bool = switch("--refit", help="The engine's weights can be replaced (on a machine with a GPU).")
    strip: bool = switch("--strip", help="Leave the weights out of the engine (on a machine with a GPU).")

    @property
    def targets(self) -> tuple[str, ...]:
        """The compute capabilities one by one."""
        return tuple(part.strip() for part in (self.target or "").split(",") if part.strip())


@dataclass(frozen=True)
class PrecisionOptions:
    """Which precisions are built."""

    precision: list[Precision] | None = flag(
        "--precision", help="Repeatable. Default: all that the targets compute in."
    )


@dataclass(frozen=True)
class SubjectOptions:
    """Which engines are measured, and in which precisions."""

    engine: list[str] | None = flag(
        "--engine", help="Repeatable. Default: all that run here.", choices=tuple(ENGINES)
    )
    precision: list[Precision] | None = flag(
        "--precision", help="Repeatable. Default: all that the engine computes in."
    )


@dataclass(frozen=True)
class TimedSubjectOptions(SubjectOptions):
    """Which engines are timed, and in which precisions."""

    engine: list[str] | None = flag(
        "--engine",
        help="Repeatable. all: every engine on every device, with a row for what cannot run here. "
        "Default: what runs here by default, and PyTorch in 16 bits.",
        choices=(*TIMED, EVERY_ENGINE),
    )


@dataclass(frozen=True)
class OneSubjectOptions:
    """Which artifact classifies pictures."""

    engine: str | None = flag("--engine", help="Default: ort.", choices=tuple(ENGINES))
    precision: Precision | None = flag("--precision", help="Default: fp32.")


@dataclass(frozen=True)
class DeviceOptions:
    """Where a network is run."""

    device: Device | None = flag("--device", help="Default: cpu.")


@dataclass(frozen=True)
class CpuOptions:
    """How engines are run on a CPU."""

    threads: int | None = flag("--threads", help="CPU threads of a call. Default: all cores.", least=1)
    allow_saturation: bool = switch(
        "--allow-saturation", help="Run a graph of --saturation full on a CPU without VNNI."
    )


@dataclass(frozen=True)
class RuntimeOptions(CpuOptions):
    """How engines are run."""

    cuda_graphs: bool | None = flag(
        "--cuda-graphs/--no-cuda-graphs",
        help="Launch a TensorRT engine's kernels at once, or one by one. Default: at once.",
    )


@dataclass(frozen=True)
class TimingOptions:
    """How long engines are timed."""

    seconds: float | None = flag(
        "--seconds", help="Timing of each engine and batch size. Default: 1.", least=0.01
    )


@dataclass(frozen=True)
class BenchmarkOptions(TimingOptions):
    """At which batch sizes engines are timed, and what becomes of the figures."""

    batch: list[int] | None = flag(
        "--batch", help="Images in a call. Repeatable. Default: 1, 8 and 32.", least=1
    )
    save: Path | None = flag("--save", help="Write machine, versions, options and rows to FILE.json.")
    compare: Path | None = flag(
        "--compare",
        help="A FILE.json of --save: exit status 1 if an engine has lost ground to PyTorch beyond the noise, "
        "or does not run any more.",
    )
    profile: bool = switch(
        "--profile", help="How long each layer takes, at the largest batch size (openvino, trt)."
    )


@dataclass(frozen=True)
class BundleOptions:
    """What becomes of a bundle that is written."""

    out: Path | None = flag("--out", help="Folder to write. Default: bundle/ in the run directory.")
    unverified: bool = switch(
        "--unverified", help="Put in what has not passed `verify`, too; the bundle says so."
    )
    u8: bool = switch(
        "--u8", help="Add graphs that take uint8 pixels and give probabilities, verified by themselves."
    )
    static_batch: int | None = flag(
        "--static-batch",
        help="Add graphs that take just this many pictures, verified by themselves, for runtimes without "
        "symbolic shapes.",
        least=1,
    )
    archive: bool = switch("--archive", help="Write FOLDER.tar.zst as well.")
    triton: bool = switch("--triton", help="Write FOLDER-triton as well, a model repository for Triton.")
    web: bool = switch(
        "--web", help="Write FOLDER-web as well, a page that classifies pictures in a browser (takes npm)."
    )
    with_sdk: bool = switch("--with-sdk", help="Put in the sources of the C++ library, as sdk/.")
    sign: Path | None = flag("--sign", help="Sign with this private key, through model-signing.")


@dataclass(frozen=True)
class ReceivedOptions:
    """Which bundle is checked that was received."""

    check: Path | None = flag("--check", help="Check this folder or .tar.zst instead of writing a bundle.")
    sha256: str | None = flag("--sha256", help="With --check: what bundle.json has to hash to.")
    public_key: Path | None = flag("--public-key", help="With --check: whose signature it has to bear.")


@dataclass(frozen=True)
class RedoOptions:
    """Whether to do again what is up to date."""

    force: bool = switch("--force", help="Redo what is up to date; replace weights.")
