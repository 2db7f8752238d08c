"""The sidecar of a plan file: what is known of an engine without loading it.

engines/<precision>.<builder>[-<targets>].engine        the plan, as TensorRT wrote it
engines/<the same>.json                                 `EngineCard`
engines/<the same>.layers.json                          the final layers; see `plan_layers`
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from artifacts.json_codec import from_file
from artifacts.names import ENGINE_FOLDER
from errors import UserError
from graphs.card import GraphCard, card_from_properties
from runtimes.tensorrt.package import Builder
from runtimes.tensorrt.plan_evidence import NONE
from runtimes.tensorrt.plan_layers import Layer, Traffic, layers_from_document
from runtimes.tensorrt.plan_options import Profile
from vocabulary import BuilderName, Flavour, Precision

# The flavour of the quantized graphs that each builder reads. TensorRT reads uint8 codes of other flavours as
# int8, so that those over 127 saturate, with a warning at most.
_QUANTIZED_FOR = {BuilderName.tensorrt: Flavour.gpu, BuilderName.rtx: Flavour.rtx}
# The flavours of all graphs that a plan can be made of.
FLAVOURS = frozenset({Flavour.any, *_QUANTIZED_FOR.values()})


def flavours_of(builder: str) -> frozenset[Flavour]:
    """Return the flavours of the graphs that a builder reads.

    Args:
        builder: one of `BuilderName`.
    """
    return frozenset({Flavour.any, _QUANTIZED_FOR[BuilderName(builder)]})


@dataclass(frozen=True)
class EngineCard:
    """The sidecar of a plan file.

    Attributes:
        builder: "rtx" or "tensorrt"; `version` is the version of that package.
        targets: compute capabilities that the plan was built for; empty for the builder's default.
        convolutions: number of convolutions by the type that the final layers say they compute in; empty
            where the layers are not known.
        proof: what `convolutions` is read from: "plan", "inspector" or "none"; `proof_sentence` says the same
            in words, with the reason for "none".
        batches: smallest, best tuned and largest batch of each optimization profile.
        options: all options of the build; see `PlanOptions.to_json`.
        traffic: what one run moves through memory, at batch sizes 1 and 32 where a profile serves them.
        warnings: how often TensorRT said each of them during the build.
        source: sha256 of the ONNX file; `properties` are that file's metadata.
        plan: sha256 of the plan file; `size` is its number of bytes.
        seconds: how long the build took.
        gpu: the name of the GPU that TensorRT built the plan on and for; empty for a plan of TensorRT for
            RTX, which is built for targets.
        capability: the compute capability of that GPU, for example 89; 0 for a plan of TensorRT for RTX.
    """

    builder: BuilderName
    version: str
    precision: Precision
    targets: tuple[str, ...]
    convolutions: dict[str, int]
    proof: str
    proof_sentence: str
    batches: tuple[Profile, ...]
    options: dict[str, Any]
    traffic: tuple[Traffic, ...]
    warnings: dict[str, int]
    source: str
    plan: str
    seconds: float
    size: int
    properties: dict[str, str]
    gpu: str = ""
    capability: int = 0

    @property
    def graph(self) -> GraphCard:
        """The card of the graph that the plan was built from."""
        return card_from_properties(self.properties)

    @property
    def convolution_words(self) -> str:
        """Such as "21 int8 convolutions", or that nothing is known of them."""
        if self.proof == NONE:
            return "types of the convolutions not proved"
        return " and ".join(f"{count} {kind}" for kind, count in self.convolutions.items()) + " convolutions"


def card_of_engine(plan: Path) -> EngineCard:
    """Read the sidecar of a plan file.

    Raises:
        UserError: there is no such file, or the file describes no engine.
    """
    return from_file(
        EngineCard, plan.with_suffix(".json"), "the sidecar of an engine", "build the engine again"
    )


def layers_of_engine(plan: Path) -> tuple[Layer, ...]:
    """Read the final layers that stand beside a plan file.

    Raises:
        UserError: there is no such file, or the file lists no layers.
    """
    path = plan.with_suffix(".layers.json")
    try:
        return layers_from_document(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not list the layers of an engine ({error})", "build it again"
        ) from error


def engine_name(precision: str, builder: Builder, targets: tuple[str, ...]) -> str:
    """File name of an engine in a run directory."""
    return f"{ENGINE_FOLDER}/{'-'.join([f'{precision}.{builder.name}', *targets])}.engine"


def files_of_engine(name: str) -> tuple[str, str, str]:
    """The files that one build writes: the plan, its sidecar and its layers.

    Args:
        name: the plan's name in the run directory.
    """
    path = PurePosixPath(name)
    return name, str(path.with_suffix(".json")), str(path.with_suffix(".layers.json"))
