"""The sidecar of a plan file, which describes an engine to readers that cannot load the plan."""

from dataclasses import dataclass
from pathlib import Path

from artifacts.json_codec import from_text
from artifacts.names import ENGINE_FOLDER
from errors import UserError
from graphs.card import GraphCard, card_from_properties
from runtimes.tensorrt.package import Builder
from vocabulary import BuilderName, Flavour, Precision

# The flavours of ONNX files that TensorRT reads. It would read uint8 codes as int8, so that codes over 127
# would saturate with no more than a warning.
FLAVOURS = frozenset({Flavour.any, Flavour.gpu})


@dataclass(frozen=True)
class EngineCard:
    """The sidecar of a plan file.

    Attributes:
        builder: the package that built the engine.
        version: the version of that package.
        precision: the precision of the ONNX file that the engine was built from.
        targets: the compute capabilities that the engine was built for, for example "sm89"; empty if the
            builder chose them.
        convolutions: the number of convolutions by the type that they compute in.
        batches: the smallest, the best tuned and the largest batch size.
        source: the sha256 of the ONNX file.
        plan: the sha256 of the plan file.
        seconds: how long the build took.
        size: the size of the plan file in bytes.
        properties: the metadata of the ONNX file.
        gpu: the name of the GPU that TensorRT built the engine on and for; empty for an engine of TensorRT
            for RTX, which is built for targets.
        capability: the compute capability of that GPU, for example 89; 0 for an engine of TensorRT for RTX.
    """

    builder: BuilderName
    version: str
    precision: Precision
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
        """The card of the graph that the engine was built from."""
        return card_from_properties(self.properties)


def card_of_engine(plan: Path) -> EngineCard:
    """Read the sidecar of a plan file.

    Raises:
        UserError: the sidecar does not exist, or the file is no sidecar.
    """
    sidecar = plan.with_suffix(".json")
    try:
        return from_text(EngineCard, sidecar.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{sidecar} does not describe an engine ({error})", "build the engine again"
        ) from error


def engine_name(precision: str, builder: Builder, targets: tuple[str, ...]) -> str:
    """Return the file name of an engine in a run directory, for example "engines/int8.rtx-sm89.engine"."""
    return f"{ENGINE_FOLDER}/{'-'.join([f'{precision}.{builder.name}', *targets])}.engine"
