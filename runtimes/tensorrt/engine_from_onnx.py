"""ONNX graph -> TensorRT engine, with one code path for TensorRT 10, 11 and TensorRT for RTX.

Networks are strongly typed: the precision of every tensor stands in the graph, so an FP16 engine
comes from an FP16 graph and an INT8 engine from a Q/DQ graph. What the parser made of it is then
counted, and an engine whose convolutions are not of the precision asked for is refused: TensorRT
builds a float32 engine from a float32 graph without a word, whatever one meant.

    engines/<precision>.<builder>[-<targets>].engine   the plan, as TensorRT wrote it
    engines/<same>.json                                `EngineCard`
"""

import json
import time
from collections import Counter
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from artifacts.files import sha256_of
from artifacts.names import ENGINE_FOLDER
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError
from graphs.card import INPUT, GraphCard
from graphs.onnx_file import card_from_file
from progress import Progress, silent
from runtimes.engines import GRAPHS_OF_BUILDERS
from runtimes.tensorrt.engine_card import EngineCard, engine_name
from runtimes.tensorrt.package import Builder, installed_builder
from runtimes.tensorrt.targets import targets_for
from vocabulary import BuilderName, Flavour

# Smallest, best tuned and largest batch of an engine.
BATCHES = (1, 32, 128)
_EXPECTED = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "fp8": "float8"}
_TYPE_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "FP8": "float8"}


def engine_from_onnx(
    run: RunDirectory,
    precision: str,
    targets: tuple[str, ...] = (),
    builder_name: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[str, bool]:
    """Build the engine of a precision, unless it is up to date.

    Args:
        targets: compute capabilities such as "sm89"; see `targets_for`.
        builder_name: "rtx" or "tensorrt"; see `installed_builder`.

    Returns:
        the engine's name in the run directory, and whether anything was done.

    Raises:
        UserError: no builder, a target that is unknown or has not the precision, or a graph made for
            another runtime.
        CheckFailed: TensorRT refuses the graph, or would not run it in this precision.
    """
    builder = installed_builder(builder_name)
    targets = targets_for(builder, targets, precision)
    name = engine_name(precision, builder, targets)
    source = GRAPHS_OF_BUILDERS[builder.name][precision]
    step = Step(
        stage="build",
        options={"precision": precision, "targets": targets, "batches": BATCHES},
        inputs=(source,),
        outputs=(name, str(PurePosixPath(name).with_suffix(".json"))),
        packages=(builder.package,),
    )
    if run.is_current(step) and not force:
        return name, False
    graph = run.verified(source)
    card = _checked_card(graph, precision, builder)
    with run.writing(step) as folder:
        (folder / ENGINE_FOLDER).mkdir()
        started = time.perf_counter()
        for _ in progress([precision], f"building {Path(name).name}", 1):
            plan, convolutions = build(graph, card, builder, targets)
        seconds = time.perf_counter() - started
        (folder / name).write_bytes(plan)
        sidecar = EngineCard(
            builder=builder.name,
            version=str(builder.version),
            precision=precision,
            targets=targets,
            convolutions=convolutions,
            batches=BATCHES,
            source=sha256_of(graph),
            plan=sha256_of(folder / name),
            seconds=round(seconds, 2),
            size=len(plan),
            properties=card.to_properties(),
        )
        text = json.dumps(sidecar.to_json(), indent=1) + "\n"
        (folder / name).with_suffix(".json").write_text(text)
    return name, True


def build(
    graph: Path, card: GraphCard, builder: Builder, targets: tuple[str, ...]
) -> tuple[bytes, dict[str, int]]:
    """Build a plan.

    Returns:
        the plan, and the number of convolutions by the type they compute in.
    """
    trt = builder.load()
    logger = _logger(trt)
    trt_builder = trt.Builder(logger)
    network = trt_builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise CheckFailed(
            f"{builder.title} cannot parse {graph.name} ({reasons})", "export and calibrate again"
        )
    convolutions = convolution_types(trt, network)
    if not _is_expected(convolutions, card):
        raise CheckFailed(
            f"{builder.title} would not run {graph.name} in {card.precision}: its convolutions are "
            f"{dict(convolutions)}",
            "export and calibrate again",
        )
    plan = trt_builder.build_serialized_network(network, _config(trt, trt_builder, network, targets))
    if plan is None:
        raise CheckFailed(
            f"{builder.title} could not build {graph.name} ({'; '.join(logger.errors) or 'no reason'})",
            "build another precision, or report this together with the ONNX file",
        )
    return bytes(plan), dict(convolutions)


def _is_expected(convolutions: Counter[str], card: GraphCard) -> bool:
    """Whether all compute in the graph's precision but those its card says are left in float."""
    own = convolutions[_EXPECTED[card.precision]]
    left = {"float16", "float32"} & set(convolutions) - {_EXPECTED[card.precision]}
    in_float = sum(convolutions[kind] for kind in left)
    return own > 0 and in_float == card.float_convolutions and own + in_float == convolutions.total()


def convolution_types(trt: ModuleType, network: Any) -> Counter[str]:
    """The type each convolution of a parsed network computes in.

    That of the codes where data and weights come straight from DequantizeLinear: strong typing leaves
    TensorRT no other choice.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    producers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    types: Counter[str] = Counter()
    for layer in layers:
        if layer.type != trt.LayerType.CONVOLUTION:
            continue
        data = producers.get(layer.get_input(0).name)
        weight_tensor = layer.get_input(1)
        weight = producers.get(weight_tensor.name) if weight_tensor is not None else None
        dequantized = [
            source is not None and source.type == trt.LayerType.DEQUANTIZE for source in (data, weight)
        ]
        read = data if data is not None and all(dequantized) else layer
        kind = read.get_input(0).dtype.name
        types[_TYPE_NAMES.get(kind, kind)] += 1
    return types


def _checked_card(graph: Path, precision: str, builder: Builder) -> GraphCard:
    card = card_from_file(graph)
    made_for_it = Flavour.rtx if builder.name == BuilderName.rtx else Flavour.gpu
    if card.precision != precision or card.flavour not in (Flavour.any, made_for_it):
        # TensorRT reads uint8 codes as int8: those over 127 saturate, with a warning at most.
        raise UserError(
            f"{graph.name} is {card.precision} for {card.flavour}, not {precision} for {builder.title}",
            "build from the graph made for it",
        )
    return card


def _strongly_typed(trt: ModuleType) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(trt: ModuleType, builder: Any, network: Any, targets: tuple[str, ...]) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 is to mean float32
    profile = builder.create_optimization_profile()
    channels = network.get_input(0).shape[1]
    profile.set_shape(INPUT, *[(batch, channels, IMAGE_SIZE, IMAGE_SIZE) for batch in BATCHES])
    config.add_optimization_profile(profile)
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
    return config


def _logger(trt: ModuleType) -> Any:
    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps error messages for the exception; TensorRT would print them."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Collector()
