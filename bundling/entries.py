"""What bundle.json says of one artifact: input, output, runtime, hardware, limits, verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from artifacts.versions import version_of
from bundling.candidates import Candidate
from bundling.document import (
    Accepts,
    ArtifactEntry,
    BatchEntry,
    GoldenLogitsEntry,
    HardwareEntry,
    InputEntry,
    OutputEntry,
    RuntimeEntry,
    RuntimeName,
    ToleranceEntry,
)
from bundling.limits import golden_limit
from data.dataset import CHANNELS, IMAGE_SIZE
from graphs.card import INPUT, OUTPUT
from runtimes.engines import ENGINES
from runtimes.tensorrt.engine_card import EngineCard
from runtimes.tensorrt.fit import RTX_CAPABILITIES, RTX_DEFAULT_LEAST
from verification.tolerances import TOLERANCES
from vocabulary import BuilderName, Saturation


@dataclass(frozen=True)
class GraphRuntime:
    """A library that opens ONNX files.

    Attributes:
        name: in bundle.json.
        package: the distribution whose version is the library's.
        accepts: which versions may open an artifact beside the one that computed the golden logits. Whether
            such a version computes the same is shown by the golden pictures, on the receiver's machine.
        arch: CPUs on which the library was seen to compute the same.
    """

    name: RuntimeName
    package: str
    accepts: Accepts
    arch: tuple[str, ...]


_GRAPH_RUNTIMES: Mapping[str, GraphRuntime] = {
    runtime.name: runtime
    for runtime in (
        GraphRuntime("ort", "onnxruntime", "same major", ("x86_64", "aarch64")),
        GraphRuntime("openvino", "openvino", "same major", ("x86_64",)),
    )
}
PLAN_RUNTIMES: Mapping[str, RuntimeName] = {
    BuilderName.rtx: "tensorrt-rtx",
    BuilderName.tensorrt: "tensorrt",
}
_PLAN_FORMATS: Mapping[str, Literal["tensorrt plan", "tensorrt-rtx plan"]] = {
    BuilderName.rtx: "tensorrt-rtx plan",
    BuilderName.tensorrt: "tensorrt plan",
}


def entry_of(candidate: Candidate) -> ArtifactEntry:
    """Return the entry of an artifact."""
    subject, card = candidate.subject, candidate.card
    return ArtifactEntry(
        id=candidate.id,
        file=candidate.file,
        format=_PLAN_FORMATS[candidate.plan.builder] if candidate.plan else "onnx",
        precision=subject.precision,
        input=InputEntry(
            INPUT, "float32", "NCHW", ("batch", CHANNELS, IMAGE_SIZE, IMAGE_SIZE), _batch_of(candidate.plan)
        ),
        output=OutputEntry(OUTPUT, "float32", ("batch", len(card.classes)), "logits"),
        runtime=_runtime_of(candidate),
        hardware=_hardware_of(candidate),
        golden=GoldenLogitsEntry(
            f"golden/logits.{candidate.id}.f32", limit_of(candidate), candidate.golden_subject.engine
        ),
        tolerance=_tolerance_of(candidate),
        verdict=candidate.judged.verdict,
    )


def limit_of(candidate: Candidate) -> float:
    """Return how near to its golden logits an artifact has to come on another machine, in dB."""
    itself = candidate.golden_subject == candidate.subject
    return golden_limit(candidate.subject.precision, candidate.card.trained, itself)


def _batch_of(plan: EngineCard | None) -> BatchEntry:
    if plan is None:
        return BatchEntry(1, None)
    return BatchEntry(min(least for least, _, _ in plan.batches), max(most for _, _, most in plan.batches))


def _runtime_of(candidate: Candidate) -> RuntimeEntry:
    settings = dict(ENGINES[candidate.subject.engine].runtime().settings)
    if plan := candidate.plan:
        accepts: Accepts = "same major" if plan.options.get("version_compatible") else "exact"
        return RuntimeEntry(PLAN_RUNTIMES[plan.builder], plan.version, accepts, settings)
    library = _GRAPH_RUNTIMES[candidate.subject.engine]
    return RuntimeEntry(library.name, str(version_of(library.package)), library.accepts, settings)


def _hardware_of(candidate: Candidate) -> HardwareEntry:
    if candidate.plan:
        return HardwareEntry(("x86_64",), "not needed", _capabilities_of(candidate.plan))
    needs_vnni = candidate.card.saturation == Saturation.full
    arch = _GRAPH_RUNTIMES[candidate.subject.engine].arch
    return HardwareEntry(arch, "required" if needs_vnni else "not needed", ())


def _capabilities_of(plan: EngineCard) -> tuple[int, ...]:
    if plan.builder == BuilderName.tensorrt:
        return (plan.capability,)
    default = (capability for capability in RTX_CAPABILITIES if capability >= RTX_DEFAULT_LEAST)
    return tuple(int(target.removeprefix("sm")) for target in plan.targets) or tuple(default)


def _tolerance_of(candidate: Candidate) -> ToleranceEntry:
    limit, trained = TOLERANCES[candidate.subject.precision], candidate.card.trained
    snr_db = limit.snr_db if trained else limit.untrained_snr_db
    return ToleranceEntry(float(snr_db), limit.agreement, limit.drop, limit.reason)
