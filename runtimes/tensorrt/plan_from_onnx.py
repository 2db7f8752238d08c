"""ONNX graph -> TensorRT plan, with one code path for TensorRT 10, 11 and TensorRT for RTX.

Networks are strongly typed: the precision of every tensor stands in the graph, so that an FP16 plan comes
from an FP16 graph and an INT8 plan from a Q/DQ graph. What TensorRT made of that is read from the plan's
final layers, and a plan whose convolutions do not compute in the precision asked for is refused: TensorRT
builds a float32 plan from a float32 graph, and a float16 plan of an INT8 graph for Turing, without a word.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from errors import CheckFailed
from graphs.card import GraphCard
from graphs.onnx_file import graph_from_file
from progress import Progress, silent
from runtimes.tensorrt.builder_config import builder_config
from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.package import Builder
from runtimes.tensorrt.plan_evidence import NONE, Evidence, evidence_of
from runtimes.tensorrt.plan_options import PlanOptions
from runtimes.tensorrt.precision_proof import convolutions_of, require_precision, types_of_convolutions
from runtimes.tensorrt.progress_monitor import serialized_network
from runtimes.tensorrt.timing_cache import load_timing_cache, save_timing_cache


@dataclass(frozen=True)
class BuiltPlan:
    """A plan that was built, and what is known of it.

    Attributes:
        content: as TensorRT wrote it.
        evidence: the final layers.
        types: the type that each convolution computes in, by the name of its ONNX node; empty where there
            is no evidence.
        warnings: how often TensorRT said each of them.
    """

    content: bytes
    evidence: Evidence
    types: Mapping[str, str]
    warnings: Mapping[str, int] = field(default_factory=dict)

    @property
    def convolutions(self) -> dict[str, int]:
        """Number of convolutions by the type that they compute in."""
        return dict(Counter(self.types.values()))


def plan_from_onnx(
    graph: Path,
    card: GraphCard,
    builder: Builder,
    targets: tuple[str, ...] = (),
    options: PlanOptions = PlanOptions(),
    progress: Progress = silent,
) -> BuiltPlan:
    """Build a plan and prove its precision.

    Args:
        graph: an ONNX file that skipfold wrote.
        card: what the graph says of itself; its precision is the one that is proved.

    Raises:
        CheckFailed: TensorRT refuses the graph or the options, fails, or would not run the graph in its
            precision.
        KeyboardInterrupt: the user stopped the build.
    """
    trt = builder.load()
    logger = collecting_logger(trt)
    trt_builder = trt.Builder(logger)
    # The parser holds the memory of the network's weights, and so has to live until the plan is built.
    network, _parser = _parsed(trt, trt_builder, logger, graph, builder.title)
    config = builder_config(trt, trt_builder, network, targets, options)
    if options.timing_cache is not None:
        load_timing_cache(config, options.timing_cache)
    title = f"building {graph.stem} with {builder.title}"
    plan = serialized_network(trt, trt_builder, network, config, progress, title)
    if plan is None:
        raise CheckFailed(
            f"{builder.title} could not build {graph.name} ({'; '.join(logger.errors) or 'no reason given'})",
            "build another precision, or report this together with the ONNX file",
        )
    if options.timing_cache is not None:
        save_timing_cache(config, options.timing_cache)
    content = bytes(plan)
    evidence = evidence_of(builder, trt, logger, content)
    types = _proved_types(graph, card, builder.title, evidence, len(options.profiles))
    return BuiltPlan(content, evidence, types, dict(logger.warnings))


def _proved_types(
    graph: Path, card: GraphCard, title: str, evidence: Evidence, profiles: int
) -> dict[str, str]:
    """The type of each convolution; nothing is claimed where there is no evidence."""
    if evidence.source == NONE:
        return {}
    types = types_of_convolutions(evidence.layers, convolutions_of(graph_from_file(graph)), profiles)
    require_precision(types, card, title, graph.name)
    return types


def _parsed(trt: ModuleType, trt_builder: Any, logger: Any, graph: Path, title: str) -> tuple[Any, Any]:
    """The network of an ONNX file, and its parser."""
    # TensorRT 10 has weakly typed networks too; later versions have no others and ignore the flag.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt_builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    # A file without any content is parsed without an error, to a network without an input.
    if not parser.parse(graph.read_bytes()) or network.get_input(0) is None:
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise CheckFailed(
            f"{title} cannot parse {graph.name} ({reasons or '; '.join(logger.errors) or 'no reason given'})",
            "export and calibrate again",
        )
    return network, parser
