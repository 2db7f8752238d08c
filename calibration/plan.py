"""All that decides the quantized graphs of a run, and the stages that make them in order."""

from dataclasses import dataclass, field, replace
from typing import Any

from artifacts.json_codec import from_file, to_json, to_text
from artifacts.names import MODEL_REPARAMETRIZED, PLAN, RANGES
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import FILES, qdq_from_ranges
from calibration.quantizing.scheme import DEFAULT_SATURATION, FP8, RTX, RTX_FP8, STREAMS, Scheme
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_graph
from calibration.rewriting.reparametrize import DEFAULT_PASSES, Reparametrization, reparametrized_from_graph
from data.dataset import Dataset
from progress import Progress, silent
from vocabulary import Flavour, Saturation, Stream


@dataclass(frozen=True)
class Plan:
    """How the graphs of every flavour are quantized.

    Attributes:
        stream: the stream of the INT8 graphs. A flavour that does not have this stream keeps int8; the
            flavour for TensorRT for RTX always has an fp16 stream.
        cpu_stream: the stream of the flavours for CPUs, if that is another one; empty otherwise.

    The other fields are those of `Method`, `reparametrized_from_graph` and `Scheme`.
    """

    method: Method = field(default_factory=Method)
    passes: tuple[str, ...] = DEFAULT_PASSES
    stream: Stream = Stream.int8
    saturation: Saturation = DEFAULT_SATURATION
    correct_bias: bool = True
    float_blocks: tuple[str, ...] = ()
    cpu_stream: str = ""

    def __post_init__(self) -> None:
        # The gpu flavour is asked, because it has every stream that some flavour has.
        Scheme(Flavour.gpu, stream=self.stream, saturation=self.saturation)

    def __str__(self) -> str:
        parts = [str(self.method), "+".join(self.passes) or "as exported"]
        if self.stream != Stream.int8:
            parts.append(f"{self.stream} stream")
        if self.cpu_stream:
            parts.append(f"{self.cpu_stream} stream on CPUs")
        parts.append(f"saturation {self.saturation}")
        if not self.correct_bias:
            parts.append("biases not corrected")
        if self.float_blocks:
            parts.append(f"{len(self.float_blocks)} blocks in float")
        return ", ".join(parts)

    def stream_of(self, flavour: Flavour) -> Stream:
        """The stream of a flavour's INT8 graph."""
        if flavour != Flavour.gpu and self.cpu_stream:
            return Stream(self.cpu_stream)
        return self.stream if self.stream in STREAMS[flavour] else Stream.int8

    def schemes(self) -> list[Scheme]:
        """A scheme for each file of `calibration.quantizing.qdq.FILES`."""
        common: dict[str, Any] = {"correct_bias": self.correct_bias, "float_blocks": self.float_blocks}
        return [
            Scheme(Flavour.cpu, stream=self.stream_of(Flavour.cpu), saturation=self.saturation, **common),
            Scheme(
                Flavour.openvino,
                stream=self.stream_of(Flavour.openvino),
                saturation=self.saturation,
                **common,
            ),
            Scheme(Flavour.gpu, stream=self.stream_of(Flavour.gpu), **common),
            replace(FP8, **common),
            replace(RTX, **common),
            replace(RTX_FP8, **common),
        ]


def quantized_from_graph(
    run: RunDirectory, dataset: Dataset, plan: Plan, force: bool = False, progress: Progress = silent
) -> tuple[list[Reparametrization], bool]:
    """Write plan.json, then reparametrize, calibrate and quantize by it, each unless it is up to date.

    Returns:
        what the passes did, and whether anything was done now.

    Raises:
        UserError, CheckFailed: as the stages do.
    """
    _record_plan(run, plan)
    passes, done = reparametrized_from_graph(run, dataset, plan.passes, force, progress)
    done |= ranges_from_graph(run, dataset, plan.method, force, progress)
    schemes = plan.schemes()
    for scheme in progress(schemes, "writing quantized graphs", len(schemes)):
        done |= qdq_from_ranges(run, scheme, force)
    return passes, done


def plan_in(run: RunDirectory) -> Plan | None:
    """The plan that a run was last quantized by, or was being quantized by when it was interrupted.

    Raises:
        UserError: plan.json is missing or was changed since.
    """
    if PLAN not in run:
        return None
    return from_file(Plan, run.verified(PLAN), "a plan", "calibrate again")


def is_quantized(run: RunDirectory) -> bool:
    """Whether every graph of the run's plan is there, made by that plan from the files there are now.

    The graphs are held against the plan, because a process can be killed between two of them.
    """
    plan = plan_in(run)
    made = (MODEL_REPARAMETRIZED, RANGES, *FILES.values())
    if plan is None or not all(run.is_fresh(name) for name in made):
        return False
    made_by: dict[str, dict[str, Any]] = {
        MODEL_REPARAMETRIZED: {"passes": list(plan.passes)},
        RANGES: {"method": plan.method.to_json()},
        **{FILES[scheme.precision, scheme.flavour]: scheme.to_json() for scheme in plan.schemes()},
    }
    return all(run.record(name).options.items() >= options.items() for name, options in made_by.items())


def _record_plan(run: RunDirectory, plan: Plan) -> None:
    """Write plan.json before the graphs, so that an interrupted calibration goes on by the same plan."""
    step = Step("plan", to_json(plan), (), (PLAN,))
    if not run.is_current(step):
        with run.writing(step) as folder:
            (folder / PLAN).write_text(to_text(plan))
