"""The page results/gpu.md in one call: what the engines do on a machine with an NVIDIA GPU.

    python benchmarks/gpu_table.py > results/gpu.md
    python benchmarks/gpu_table.py --device cpu --depth 8 --batch 1 --minutes 3      a dry run, without a GPU

The page first says whether an engine of TensorRT for RTX loads here, in TensorRT's own words. Then follow,
for each network, PyTorch in eager mode, ONNX Runtime and TensorRT in every precision, TensorRT without CUDA
graphs, and torch.compile. Everything is timed by `benchmark`, in turns with PyTorch in float32 on the same
device.

The steps are taken in that order while the time lasts, the shallow networks first. A step is left out if the
same step of an earlier network says that it would not end in time, and the page names what was left out. The
weights are freshly initialised where no --run is given: latency does not depend on their values.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from errors import UserError
from reporting.benchmark import refusal_lines
from reporting.summary import engine_title, number
from runtimes.engines import TIMED
from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.validity import reasons_in
from verification.refusal import Refusal
from verification.rows import Row
from vocabulary import Device, Variant
from workflow.benchmark import benchmark_of
from workflow.choice import Session, session_from_options
from workflow.options import BenchmarkOptions, RunOptions, RuntimeOptions, TimedSubjectOptions
from workflow.stages import exported

DEPTHS = (20, 110, 164)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
# torch.compile takes up to minutes for each of these.
COMPILED_BATCHES = (1, 32)
COLUMNS = [
    "network", "engine", "precision", "step", "batch", "p50 ms", "device ms", "images/s", "×", "95 %",
    "× best PyTorch", "load ms", "first ms",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One call of `benchmark` for each network."""

    name: str
    engines: tuple[str, ...]
    cuda_graphs: bool | None = None
    batches: tuple[int, ...] | None = None


def steps_on(device: Device) -> list[Step]:
    """The steps in the order in which they are taken; the dry run has another engine in the second step."""
    engines = tuple(name for name in TIMED if name != "torch-compile")
    return [
        Step("all engines", engines),
        Step("without CUDA graphs", ("trt",) if device == Device.cuda else ("ort",), cuda_graphs=False),
        Step("torch.compile", ("torch-compile",), batches=COMPILED_BATCHES),
    ]


@dataclass
class Budget:
    """How much time is left, and what each kind of step has taken for each layer so far."""

    seconds: float
    begun: float = field(default_factory=lambda: time.monotonic())
    slowest: dict[str, float] = field(default_factory=dict)

    def allows(self, step: Step, depth: int) -> bool:
        """Whether a step would end in time; one that was never taken is tried while any time is left."""
        return time.monotonic() - self.begun + self.slowest.get(step.name, 0) * depth < self.seconds

    def took(self, step: Step, depth: int, seconds: float) -> None:
        """Note what a step has taken; a deeper network takes longer in proportion."""
        self.slowest[step.name] = max(self.slowest.get(step.name, 0), seconds / depth)


@dataclass
class Page:
    """What the page consists of."""

    loading: str = "This was not tried."
    rows: list[list[str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def text(self, command: str) -> str:
        """The page as Markdown."""
        return "\n".join(
            [
                "# On a GPU\n",
                f"Command: `{command}`  \n{machine_lines()}  \nNVIDIA driver: {driver_version()}\n",
                "Weights are freshly initialised unless `--run` stands in the command; latency does not",
                "depend on them. Latency is from host memory to host memory, and `device ms` leaves out the",
                "copies. `×` is over PyTorch's eager float32 on the same device, with 95 % limits.\n",
                f"## Does an engine of TensorRT for RTX load here?\n\n{self.loading}\n",
                f"## Latency\n\n{markdown_table(COLUMNS, self.rows)}\n",
                f"## Not run\n\n{_list(self.refusals)}\n",
                f"## Left out for lack of time\n\n{_list(self.left_out)}",
            ]
        )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.cuda)
    parser.add_argument("--depth", type=int, action="append", help="repeatable; default 20, 110 and 164")
    parser.add_argument("--run", type=Path, action="append", help="a run to take instead; repeatable")
    parser.add_argument("--batch", type=int, action="append", help="repeatable; default 1 to 128")
    parser.add_argument("--seconds", type=float, default=0.2, help="timing of each engine and batch size")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop beginning steps")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        networks = list(_networks(given.run, given.depth or DEPTHS, Path(folder)))
        page = Page()
        try:
            measure(page, networks, given.device, given.batch, given.seconds, Budget(60 * given.minutes))
        finally:
            # What was measured until an error or Ctrl-C is not lost, because a GPU may not be had again soon.
            print(page.text(f"python benchmarks/gpu_table.py {' '.join(arguments or sys.argv[1:])}".strip()))


def _networks(runs: list[Path] | None, depths: Sequence[int], folder: Path) -> Iterator[RunOptions]:
    if runs:
        yield from (RunOptions(run_dir=run) for run in runs)
        return
    for depth in depths:
        for variant in Variant:
            yield RunOptions(depth=depth, variant=variant, run_dir=folder / f"{variant}-{depth}")


def measure(
    page: Page,
    networks: list[RunOptions],
    device: Device,
    batches: list[int] | None,
    seconds: float,
    budget: Budget,
) -> None:
    """Fill the page while the time lasts: all networks through one step, then the next step."""
    sessions = [session_from_options(options) for options in networks]
    exported(sessions[0])
    page.loading = loading_of_rtx(sessions[0].run)
    for step in steps_on(device):
        for session in sessions:
            depth = session.identity.depth or 0
            title = f"{session.identity.variant} ResNet-{depth}"
            if not budget.allows(step, depth):
                page.left_out.append(f"{title}: {step.name}")
                continue
            print(f"{title}: {step.name}", file=sys.stderr)
            begun = time.monotonic()
            wanted = batches or list(BATCHES)
            sizes = [batch for batch in step.batches or wanted if batch in wanted] or wanted
            _take(page, session, step, device, sizes, seconds, title)
            budget.took(step, depth, time.monotonic() - begun)


def _take(
    page: Page, session: Session, step: Step, device: Device, sizes: list[int], seconds: float, title: str
) -> None:
    try:
        outcome = benchmark_of(
            session,
            TimedSubjectOptions(engine=list(step.engines)),
            device,
            RuntimeOptions(cuda_graphs=step.cuda_graphs),
            BenchmarkOptions(batch=sizes, seconds=seconds),
        )
    except UserError as error:
        page.refusals.append(f"{title}, {step.name}: {error.problem} ({error.fix})")
        return
    page.rows += [_cells(title, step.name, row) for row in outcome.rows]
    page.refusals += _refused(title, outcome.refusals)


def _refused(title: str, refusals: list[Refusal]) -> list[str]:
    return [f"{title}: {text}" for _, text in refusal_lines(refusals)]


def _cells(title: str, step: str, row: Row) -> list[str]:
    interval = row["speedup_interval"]
    return [
        title,
        engine_title(row["engine"], row["device"]),
        row["precision"],
        step,
        str(row["batch"]),
        number(row["p50_ms"], 3),
        number(row["device_ms"], 3),
        number(row["images_per_s"], 0),
        number(row["speedup"], 2),
        f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else "–",
        number(row["over_best"], 2),
        number(row["load_ms"], 0),
        number(row["first_ms"], 0),
    ]


def loading_of_rtx(run: RunDirectory) -> str:
    """Build a float32 engine with TensorRT for RTX and say what TensorRT says of it on this machine."""
    builder = BUILDERS["rtx"]
    if not builder.is_installed:
        return f"{builder.title} is not installed, so that nothing was tried."
    trt = builder.load()
    try:
        name, _ = engine_from_onnx(run, "fp32", builder_name="rtx")
    except UserError as error:
        return f"{builder.title} {builder.version} built no engine: {error.problem}."
    logger = collecting_logger(trt)
    try:
        words = _words_on_loading(trt.Runtime(logger), (run.path / name).read_bytes())
    # TensorRT raises TypeError where it cannot make a runtime, and RuntimeError elsewhere.
    except (RuntimeError, TypeError) as error:
        words = f"no, TensorRT raises {type(error).__name__}: {error}"
    said = "".join(f"\n- {text}" for text in logger.errors)
    return f"{builder.title} {builder.version}, `{Path(name).name}`: {words}.{said}"


def _words_on_loading(runtime: Any, plan: bytes) -> str:
    """Whether a plan is deserialized, and TensorRT's reasons from its header if it is not."""
    loaded = runtime.deserialize_cuda_engine(plan)
    validity, diagnostics = runtime.get_engine_validity(plan[: getattr(runtime, "engine_header_size", 64)])
    answer = getattr(validity, "name", validity)
    verdict = f"`get_engine_validity` answers {answer}, diagnostics {int(diagnostics)}"
    if loaded is not None:
        return f"yes, the engine loads; {verdict}"
    reasons = [problem for problem, _ in reasons_in(int(diagnostics), 0)] if int(diagnostics) else []
    return f"no, the engine does not load; {verdict}" + "".join(f"; {reason}" for reason in reasons)


def driver_version() -> str:
    """The version of the NVIDIA driver, or why there is none."""
    try:
        import pynvml
    except ImportError:
        return "unknown, pynvml is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"none ({error})"
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "Nothing."


if __name__ == "__main__":
    main()
