"""All that decides the quantized graphs of a run, and the stages that make them in order."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from artifacts.names import MODEL_INT8_CPU, MODEL_INT8_GPU, MODEL_REPARAMETRIZED, RANGES
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import FILES, qdq_from_ranges
from calibration.quantizing.scheme import (
    DEFAULT_SATURATION,
    FORMAT,
    FP8,
    RTX,
    RTX_FP8,
    STREAMS,
    Scheme,
)
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import ranges_from_graph
from calibration.rewriting.reparametrize import DEFAULT_PASSES, Pass, reparametrized_from_graph
from data.dataset import Dataset
from progress import Progress, silent


@dataclass(frozen=True)
class Plan:
    """How the graphs of every flavour are quantized.

    Attributes:
        stream: of the INT8 graphs; a flavour that does not have it keeps int8, and that for TensorRT for
            RTX always has an fp16 stream.
        cpu_stream: of the flavours for CPUs, where it is another than that.

    The rest as in `Method`, `reparametrized_from_graph` and `Scheme`.
    """

    method: Method = field(default_factory=Method)
    passes: tuple[str, ...] = DEFAULT_PASSES
    stream: str = "int8"
    saturation: str = DEFAULT_SATURATION
    correct_bias: bool = True
    float_blocks: tuple[str, ...] = ()
    cpu_stream: str = ""

    def __post_init__(self) -> None:
        # Of all flavours the gpu flavour has most streams; see `stream_of` for the others.
        Scheme("gpu", stream=self.stream, saturation=self.saturation)

    def __str__(self) -> str:
        parts = [str(self.method), "+".join(self.passes) or "as exported"]
        if self.stream != "int8":
            parts.append(f"{self.stream} stream")
        if self.cpu_stream:
            parts.append(f"{self.cpu_stream} stream on CPUs")
        parts.append(f"saturation {self.saturation}")
        if not self.correct_bias:
            parts.append("biases not corrected")
        if self.float_blocks:
            parts.append(f"{len(self.float_blocks)} blocks in float")
        return ", ".join(parts)

    def stream_of(self, flavour: str) -> str:
        """Of the INT8 graph of a flavour."""
        if flavour != "gpu" and self.cpu_stream:
            return self.cpu_stream
        return self.stream if self.stream in STREAMS[flavour] else "int8"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        lists = {"passes": list(self.passes), "float_blocks": list(self.float_blocks)}
        return asdict(self) | lists | {"method": self.method.to_json()}

    def schemes(self) -> list[Scheme]:
        """One for each file of `calibration.quantizing.qdq.FILES`."""
        common: dict[str, Any] = {"correct_bias": self.correct_bias, "float_blocks": self.float_blocks}
        return [
            Scheme("cpu", stream=self.stream_of("cpu"), saturation=self.saturation, **common),
            Scheme("openvino", stream=self.stream_of("openvino"), saturation=self.saturation, **common),
            Scheme("gpu", stream=self.stream_of("gpu"), **common),
            replace(FP8, **common),
            replace(RTX, **common),
            replace(RTX_FP8, **common),
        ]


def quantized_from_graph(
    run: RunDirectory, dataset: Dataset, plan: Plan, force: bool = False, progress: Progress = silent
) -> tuple[list[Pass], bool]:
    """Reparametrize, calibrate and quantize, each unless it is up to date.

    Returns:
        what the passes did, and whether anything was done now.

    Raises:
        UserError, CheckFailed: as the stages do.
    """
    passes, done = reparametrized_from_graph(run, dataset, plan.passes, force, progress)
    done |= ranges_from_graph(run, dataset, plan.method, force, progress)
    schemes = plan.schemes()
    for scheme in progress(schemes, "writing quantized graphs", len(schemes)):
        done |= qdq_from_ranges(run, scheme, force)
    return passes, done


def is_quantized(run: RunDirectory) -> bool:
    """Whether all that a plan makes is there, made from the files there are now and as it is made now."""
    return all(run.is_fresh(name) for name in (MODEL_REPARAMETRIZED, RANGES, *FILES.values())) and all(
        run.record(name).options.get("format") == FORMAT for name in FILES.values()
    )


def plan_of(run: RunDirectory) -> Plan:
    """The plan a run was quantized by, as its manifest tells; defaults for what it does not."""
    wanted: list[tuple[str, str, str, Callable[[Any], Any]]] = [
        (RANGES, "method", "method", lambda found: Method.from_options(**found)),
        (MODEL_REPARAMETRIZED, "passes", "passes", tuple),
        (MODEL_INT8_GPU, "stream", "stream", str),
        (MODEL_INT8_CPU, "saturation", "saturation", str),
        (MODEL_INT8_CPU, "correct_bias", "correct_bias", bool),
        (MODEL_INT8_CPU, "float_blocks", "float_blocks", tuple),
    ]
    plan = Plan(
        **{
            field: read(run.record(file).options[option])
            for file, option, field, read in wanted
            if file in run and option in run.record(file).options
        }
    )
    on_cpu = run.record(MODEL_INT8_CPU).options.get("stream") if MODEL_INT8_CPU in run else None
    return plan if on_cpu in (None, plan.stream_of("cpu")) else replace(plan, cpu_stream=on_cpu)


def plan_from_json(fields: Mapping[str, Any]) -> Plan:
    """What `Plan.to_json` gave."""
    lists = {name: tuple(fields[name]) for name in ("passes", "float_blocks")}
    return Plan(**{**fields, **lists, "method": Method.from_options(**fields["method"])})
