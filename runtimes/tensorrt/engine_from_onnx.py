"""ONNX graph -> engine in a run directory: the plan, its sidecar and its final layers.

A graph is checked before it is built, which takes no GPU, and the precision of its plan is proved
afterwards. What fails either leaves the run directory as it was.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.files import sha256_of
from artifacts.json_codec import to_text
from artifacts.names import ENGINE_FOLDER
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from graphs.card import GraphCard
from graphs.onnx_file import card_from_file
from machine.gpu import gpus
from progress import Progress, silent
from runtimes.acceptance import require_made_for
from runtimes.engines import GRAPHS_OF_BUILDERS
from runtimes.tensorrt.engine_card import EngineCard, engine_name, files_of_engine, flavours_of
from runtimes.tensorrt.package import Builder, installed_builder
from runtimes.tensorrt.plan_from_onnx import BuiltPlan, plan_from_onnx
from runtimes.tensorrt.plan_layers import Traffic, document_of_layers, traffic
from runtimes.tensorrt.plan_options import PlanOptions, profile_serving, require_supported
from runtimes.tensorrt.preflight import require_buildable
from runtimes.tensorrt.targets import devices_of, targets_for
from vocabulary import Precision

# Batch sizes whose traffic is told: one image, and the size that throughput is measured at.
TOLD_BATCHES = (1, 32)


@dataclass(frozen=True)
class _Order:
    """An engine that is to be built."""

    precision: Precision
    builder: Builder
    targets: tuple[str, ...]
    options: PlanOptions

    @property
    def name(self) -> str:
        return engine_name(self.precision, self.builder, self.targets)

    @property
    def source(self) -> str:
        """The name of the graph that is built from."""
        return GRAPHS_OF_BUILDERS[self.builder.name][self.precision]

    @property
    def step(self) -> Step:
        decisions = {"precision": self.precision, "targets": self.targets, **self.options.to_json()}
        return Step(
            stage="build",
            options=decisions | {"version": self.builder.version} | built_on(self.builder),
            inputs=(self.source,),
            outputs=files_of_engine(self.name),
        )


def engine_from_onnx(
    run: RunDirectory,
    precision: str,
    targets: tuple[str, ...] = (),
    builder_name: str | None = None,
    force: bool = False,
    progress: Progress = silent,
    options: PlanOptions = PlanOptions(),
) -> tuple[str, bool]:
    """Build the engine of a precision, unless the engine is up to date.

    Where another process is building in this run, its end is waited for; an engine that it made is then
    found up to date.

    Args:
        targets: compute capabilities such as "sm89"; see `targets_for`.
        builder_name: "rtx" or "tensorrt"; see `installed_builder`.

    Returns:
        the engine's name in the run directory, and whether anything was done.

    Raises:
        UserError: there is no builder, a target is unknown or has not the precision, the builder does not
            have an option, or the graph was made for another runtime.
        CheckFailed: the graph cannot become an engine, or TensorRT would not run it in this precision.
    """
    builder = installed_builder(builder_name)
    require_supported(options, builder, have_gpu=bool(gpus()))
    order = _Order(Precision(precision), builder, targets_for(builder, targets, precision), options)
    with _one_build_at_a_time(run, progress):
        if run.is_current(order.step) and not force:
            return order.name, False
        _build(run, order, progress)
    return order.name, True


@contextmanager
def _one_build_at_a_time(run: RunDirectory, progress: Progress) -> Iterator[None]:
    """Keep other processes from building in this run; wait for one that does, and read what it wrote."""
    shown = progress if run.is_under_way("build") else silent
    with ExitStack() as stack:
        for _ in shown([run], f"waiting for another build in {run.path}", 1):
            stack.enter_context(run.alone("build", wait=True))
        run.reread()
        yield


def _build(run: RunDirectory, order: _Order, progress: Progress) -> None:
    graph = run.verified(order.source)
    card = _checked_card(graph, order.precision, order.builder)
    require_buildable(graph, order.builder, devices_of(order.builder, order.targets))
    with run.writing(order.step, wait=True) as folder:
        started = time.perf_counter()
        plan = plan_from_onnx(graph, card, order.builder, order.targets, order.options, progress)
        seconds = time.perf_counter() - started
        _write(folder, graph, card, order, plan, seconds)


def _write(
    folder: Path, graph: Path, card: GraphCard, order: _Order, plan: BuiltPlan, seconds: float
) -> None:
    name, sidecar, layers = files_of_engine(order.name)
    figures = _traffic(plan, order.options)
    (folder / ENGINE_FOLDER).mkdir()
    (folder / name).write_bytes(plan.content)
    engine = EngineCard(
        builder=order.builder.name,
        version=str(order.builder.version),
        precision=order.precision,
        targets=order.targets,
        convolutions=plan.convolutions,
        proof=plan.evidence.source,
        proof_sentence=plan.evidence.sentence,
        batches=order.options.profiles,
        options=order.options.to_json(),
        traffic=figures,
        warnings=dict(plan.warnings),
        source=sha256_of(graph),
        plan=sha256_of(folder / name),
        seconds=round(seconds, 2),
        size=len(plan.content),
        properties=card.to_properties(),
        **built_on(order.builder),
    )
    (folder / sidecar).write_text(to_text(engine))
    told = [(entry.profile, entry.batch) for entry in figures]
    types = {"convolutions": dict(plan.types)}
    _write_json(folder / layers, types | document_of_layers(plan.evidence.layers, told))


def built_on(builder: Builder) -> dict[str, Any]:
    """The GPU that TensorRT builds on and for, by the fields of `EngineCard`; none for TensorRT for RTX."""
    if builder.ahead_of_time:
        return {}
    first = gpus()[0]
    return {"gpu": first.name, "capability": first.compute_capability}


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")


def _traffic(plan: BuiltPlan, options: PlanOptions) -> tuple[Traffic, ...]:
    """What the plan moves at each of `TOLD_BATCHES` that a profile serves; nothing without layers."""
    if not plan.evidence.layers:
        return ()
    serving = [(profile_serving(options.profiles, batch), batch) for batch in TOLD_BATCHES]
    return tuple(
        traffic(plan.evidence.layers, profile, batch) for profile, batch in serving if profile is not None
    )


def _checked_card(graph: Path, precision: str, builder: Builder) -> GraphCard:
    card = card_from_file(graph)
    require_made_for(builder.title, graph.name, card, precision, flavours_of(builder.name))
    return card
