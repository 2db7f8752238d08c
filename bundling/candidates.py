"""Artifacts of a run that go into a bundle: verdict, name, file, and what computes their golden logits."""

import math
from dataclasses import dataclass
from pathlib import PurePosixPath

from artifacts.names import BENCHMARK, MODEL
from artifacts.run_directory import RunDirectory
from bundling.judged import Judged
from graphs.card import GraphCard
from graphs.onnx_file import card_from_file
from runtimes.engines import ENGINES, GRAPHS_OF_BUILDERS
from runtimes.subjects import Subject
from runtimes.tensorrt.engine_card import EngineCard, card_of_engine
from verification.rows import is_current, read_table
from vocabulary import BuilderName, Device, Precision

MODELS = "models"
# Engines whose artifacts a bundle can hold.
BUNDLED_ENGINES = ("ort", "openvino", "trt")
# Which artifact a program tries first if nothing was timed: the narrow ones, which are faster nearly always.
_PRECISIONS = (Precision.int8, Precision.fp8, Precision.fp16, Precision.bf16, Precision.fp32)
_ENGINES = ("trt", "openvino", "ort")


@dataclass(frozen=True)
class Candidate:
    """An artifact of a run that goes into a bundle.

    Attributes:
        judged: the artifact and its verdict.
        id: its name in the bundle, for example "openvino-int8".
        card: the card of its graph.
        plan: the sidecar, if the artifact is a plan.
    """

    judged: Judged
    id: str
    card: GraphCard
    plan: EngineCard | None = None

    @property
    def subject(self) -> Subject:
        """The engine with the artifact."""
        return self.judged.subject

    @property
    def file(self) -> str:
        """The path of the artifact in the bundle."""
        return self.subject.artifact if self.plan else f"{MODELS}/{self.subject.artifact}"

    @property
    def source(self) -> str | None:
        """The name in the run of the ONNX file that a plan was built from; None for an ONNX file."""
        return GRAPHS_OF_BUILDERS[self.plan.builder][self.subject.precision] if self.plan else None

    @property
    def golden_subject(self) -> Subject:
        """What computes the golden logits.

        That is the artifact itself. A plan that is not verified may have met no GPU yet; its golden logits
        are those of the reference evaluation of the graph that it was built from.
        """
        if self.source is None or self.judged.verdict is not None:
            return self.subject
        if self.subject.precision == Precision.fp32:
            return Subject("ort", Precision.fp32, MODEL, Device.cpu)
        engines = (ENGINES[name] for name in ("reference", "reference-rtx"))
        engine = next(engine for engine in engines if self.source in engine.graphs.values())
        return Subject(engine.name, self.subject.precision, self.source, Device.cpu)


def candidates_of(run: RunDirectory, judged: list[Judged]) -> list[Candidate]:
    """Return artifacts as candidates, in order of preference.

    Verified artifacts come first, and plans before graphs, because a plan is there for the sake of a GPU.
    Then the latency at batch 1 decides, as `benchmark` measured it in this run. What was not timed comes
    last, narrow precisions first.

    Raises:
        UserError: an artifact or its sidecar is missing or was changed.
    """
    timed = _latencies(run)

    def preference(candidate: Candidate) -> tuple[bool, bool, float, int, int, str]:
        subject = candidate.subject
        kind = not candidate.judged.passed, candidate.plan is None
        rank = _PRECISIONS.index(subject.precision), _ENGINES.index(subject.engine)
        return (*kind, timed.get(subject, math.inf), *rank, candidate.id)

    return sorted((_candidate(run, entry) for entry in judged), key=preference)


def _candidate(run: RunDirectory, judged: Judged) -> Candidate:
    subject = judged.subject
    path = run.verified(subject.artifact)
    if not ENGINES[subject.engine].opens_plans:
        return Candidate(judged, f"{subject.engine}-{subject.precision}", card_from_file(path))
    run.verified(str(PurePosixPath(subject.artifact).with_suffix(".json")))
    plan = card_of_engine(path)
    runtime = "tensorrt" if plan.builder == BuilderName.tensorrt else "tensorrt-rtx"
    return Candidate(judged, "-".join([runtime, plan.precision, *plan.targets]), plan.graph, plan)


def _latencies(run: RunDirectory) -> dict[Subject, float]:
    """Return the median latencies at batch 1 in benchmark.json, of artifacts that are still the run's."""
    if not (run.is_intact(BENCHMARK) and run.record(BENCHMARK).is_of_this_code):
        return {}
    rows = read_table(run.path / BENCHMARK)["rows"]
    current = (row for row in rows if row["batch"] == 1 and is_current(run, row))
    return {Subject.of_row(row): row["p50_ms"] for row in current}
