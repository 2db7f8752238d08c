"""Build a TensorRT engine from an ONNX graph, with one code path for TensorRT 10, 11 and TensorRT for RTX.

Networks are strongly typed, which means that the graph fixes the precision of every tensor: an FP16 engine
comes from an FP16 graph and an INT8 engine from a Q/DQ graph. TensorRT would silently build a float32
engine from a float32 graph even if INT8 was meant. The convolutions of the parsed network are therefore
counted by type, and a network with convolutions in another precision is refused.

    engines/<precision>.<builder>[-<targets>].engine   the plan, as TensorRT wrote it
    engines/<precision>.<builder>[-<targets>].json     the sidecar, an `EngineCard`
"""

import time
from collections import Counter
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from artifacts.files import sha256_of
from artifacts.json_codec import to_text
from artifacts.names import ENGINE_FOLDER
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import IMAGE_SIZE
from errors import CheckFailed
from graphs.card import INPUT, GraphCard
from graphs.onnx_file import card_from_file
from machine.gpu import gpus
from progress import Progress, silent
from runtimes.engines import GPU_GRAPHS
from runtimes.runtime import require_made_for
from runtimes.tensorrt.engine_card import FLAVOURS, EngineCard, engine_name
from runtimes.tensorrt.logger import collecting_logger
from runtimes.tensorrt.package import Builder, installed_builder
from runtimes.tensorrt.targets import targets_for
from vocabulary import Precision

# The smallest, the best tuned and the largest batch size of an engine.
BATCHES = (1, 32, 128)
# The type that convolutions of each precision compute in, and the names of the types in TensorRT.
_EXPECTED = {
    Precision.fp32: "float32",
    Precision.fp16: "float16",
    Precision.bf16: "bfloat16",
    Precision.int8: "int8",
    Precision.fp8: "float8",
}
_TYPE_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "FP8": "float8"}


def engine_from_onnx(
    run: RunDirectory,
    precision: str,
    targets: tuple[str, ...] = (),
    builder_name: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[str, bool]:
    """Build the engine of a precision, unless the engine is up to date.

    Args:
        run: the run directory, which must hold the graph of this precision for TensorRT.
        precision: the precision of the engine, for example "int8".
        targets: compute capabilities such as "sm89"; see `targets_for`.
        builder_name: "rtx" or "tensorrt"; see `installed_builder`.
        force: True builds the engine even if it is up to date.
        progress: wraps the build, so that a display can follow.

    Returns:
        the name of the engine in the run directory, and whether anything was done.

    Raises:
        UserError: no builder is installed, a target is unknown or lacks the precision, or the graph was
            made for another runtime.
        CheckFailed: TensorRT refuses the graph, or would not run the graph in this precision.
    """
    builder = installed_builder(builder_name)
    targets = targets_for(builder, targets, precision)
    name = engine_name(precision, builder, targets)
    source = GPU_GRAPHS[precision]
    step = Step(
        stage="build",
        options={
            "precision": precision,
            "targets": targets,
            "batches": BATCHES,
            "version": builder.version,
            **_built_on(builder),
        },
        inputs=(source,),
        outputs=(name, str(PurePosixPath(name).with_suffix(".json"))),
    )
    if run.is_current(step) and not force:
        return name, False
    graph = run.verified(source)
    card = card_from_file(graph)
    require_made_for("TensorRT", graph.name, card, precision, FLAVOURS)
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
            precision=card.precision,
            targets=targets,
            convolutions=convolutions,
            batches=BATCHES,
            source=sha256_of(graph),
            plan=sha256_of(folder / name),
            seconds=round(seconds, 2),
            size=len(plan),
            properties=card.to_properties(),
            **_built_on(builder),
        )
        (folder / name).with_suffix(".json").write_text(to_text(sidecar))
    return name, True


def _built_on(builder: Builder) -> dict[str, Any]:
    """The GPU that TensorRT built on and for, by the fields of `EngineCard`."""
    if builder.ahead_of_time:
        return {}
    first = gpus()[0]
    return {"gpu": first.name, "capability": first.compute_capability}


def build(
    graph: Path, card: GraphCard, builder: Builder, targets: tuple[str, ...]
) -> tuple[bytes, dict[str, int]]:
    """Build the plan of one ONNX file.

    Args:
        graph: the ONNX file.
        card: the card of the file, which says in what precision its convolutions must compute.
        builder: the package that builds the plan.
        targets: the compute capabilities to build for; empty leaves the choice to the builder.

    Returns:
        the plan, and the number of convolutions by the type that they compute in.

    Raises:
        CheckFailed: TensorRT cannot parse the file or build the plan, or would run convolutions in another
            precision.
    """
    trt = builder.load()
    logger = collecting_logger(trt)
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
    """Tell whether all convolutions compute in the precision of the graph.

    As many as the card says may compute in float16 or float32 instead.
    """
    expected = _EXPECTED[card.precision]
    as_meant = convolutions[expected]
    in_float = sum(convolutions[kind] for kind in ("float16", "float32") if kind != expected)
    return (
        as_meant > 0 and in_float == card.float_convolutions and as_meant + in_float == convolutions.total()
    )


def convolution_types(trt: ModuleType, network: Any) -> Counter[str]:
    """Count the convolutions of a parsed network by the type that they compute in.

    A convolution whose input and weight both come straight from DequantizeLinear computes in the type of
    the codes, because strong typing leaves TensorRT no other choice.
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


def _strongly_typed(trt: ModuleType) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(trt: ModuleType, builder: Any, network: Any, targets: tuple[str, ...]) -> Any:
    config = builder.create_builder_config()
    # A float32 engine must compute in float32; TF32 would keep 10 bits of a mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    channels = network.get_input(0).shape[1]
    profile.set_shape(INPUT, *[(batch, channels, IMAGE_SIZE, IMAGE_SIZE) for batch in BATCHES])
    config.add_optimization_profile(profile)
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
    return config
