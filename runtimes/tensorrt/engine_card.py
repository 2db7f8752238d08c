"""The sidecar of a plan file: what is known of an engine without loading it."""

from dataclasses import dataclass
from pathlib import Path

from artifacts.json_codec import from_text
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

    @property
    def graph(self) -> GraphCard:
        """The card of the graph it was built from."""
        return card_from_properties(self.properties)


def card_of_engine(plan: Path) -> EngineCard:
    """Read the sidecar of a plan file.

    Raises:
        UserError: there is none, or it is not one.
    """
    sidecar = plan.with_suffix(".json")
    try:
        return from_text(EngineCard, sidecar.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{sidecar} does not describe an engine ({error})", "build it again") from error


def engine_name(precision: str, builder: Builder, targets: tuple[str, ...]) -> str:
    """File name of an engine in a run directory."""
    return f"{ENGINE_FOLDER}/{'-'.join([f'{precision}.{builder.name}', *targets])}.engine"
