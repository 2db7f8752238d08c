"""The sidecar of a plan file: what is known of an engine without loading it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artifacts.names import ENGINE_FOLDER
from errors import UserError
from graphs.card import GraphCard, card_from_properties
from runtimes.tensorrt.package import Builder


@dataclass(frozen=True)
class EngineCard:
    """The sidecar of a plan file.

    Attributes:
        builder: "rtx" or "tensorrt"; `version` is that package's.
        targets: compute capabilities it was built for; empty for the builder's own default.
        convolutions: number of convolutions by the type they compute in.
        batches: smallest, best tuned and largest batch.
        source: sha256 of the ONNX file; `properties` are that file's metadata.
        plan: sha256 of the plan file.
        gpu: name of the GPU that TensorRT built it on and for, and `capability` is that GPU's compute
            capability; empty and 0 for an engine of TensorRT for RTX, which is built for targets.
    """

    builder: str
    version: str
    precision: str
    targets: tuple[str, ...]
    convolutions: dict[str, int]
    batches: tuple[int, ...]
    source: str
    plan: str
    seconds: float
    size: int
    properties: dict[str, str]
    gpu: str = ""
    capability: int = 0

    @property
    def graph(self) -> GraphCard:
        """The card of the graph it was built from."""
        return card_from_properties(self.properties)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def card_of_engine(plan: Path) -> EngineCard:
    """Read the sidecar of a plan file.

    Raises:
        UserError: there is none, or it is not one.
    """
    sidecar = plan.with_suffix(".json")
    try:
        fields = json.loads(sidecar.read_text())
        fields["targets"], fields["batches"] = tuple(fields["targets"]), tuple(fields["batches"])
        return EngineCard(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{sidecar} does not describe an engine ({error})", "build it again") from error


def engine_name(precision: str, builder: Builder, targets: tuple[str, ...]) -> str:
    """File name of an engine in a run directory."""
    return f"{ENGINE_FOLDER}/{'-'.join([f'{precision}.{builder.name}', *targets])}.engine"
