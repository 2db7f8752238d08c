"""bundle.json: what a bundle says of itself, as dataclasses.

The order of the fields is the order of the keys in the file. The file has no timestamp and no path of the
machine that wrote it. So a run gives the same bytes every time, as long as the packages and the kind of CPU,
on which the golden logits depend, are the same. `docs/bundle.schema.json` is the same as a JSON Schema, made
by `bundling.schema`.

The files of a bundle:

    bundle.json  README.md  LICENSE  [bundle.sig]
    models/*.onnx                   the graphs
    engines/*.engine, *.json        plans of TensorRT, each with its sidecar
    golden/pictures/*.png           pictures as a user has them, of many sizes and shapes
    golden/fitted.u8                these, cut and resized: uint8 [count, height, width, 3], RGB
    golden/input.f32                these, normalised: float32 [count, 3, height, width], little endian
    golden/logits.ID.f32            what artifact ID gives for them: float32 [count, classes], little endian
"""

from dataclasses import dataclass
from typing import Literal

from machine.description import Machine
from vocabulary import Block, Precision, Variant

SCHEMA: Literal["skipfold.bundle/1"] = "skipfold.bundle/1"
VERSION = "0.1.0"
PRODUCER = f"skipfold {VERSION}"

DOCUMENT, README, LICENSE, SIGNATURE = "bundle.json", "README.md", "LICENSE", "bundle.sig"
# What the closed list of files does not name: the list itself, and what is signed after the list was made.
UNLISTED = (DOCUMENT, SIGNATURE)

Accepts = Literal["any", "same major", "same major and minor", "exact"]
RuntimeName = Literal["ort", "openvino", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class NetworkEntry:
    """Which network the artifacts are.

    Attributes:
        trained: False for freshly initialised weights, whose answers mean nothing.
        checkpoint_sha256: of the weights that every artifact was made from.
    """

    variant: Variant
    depth: int
    block: Block
    dataset: str
    trained: bool
    checkpoint_sha256: str


@dataclass(frozen=True)
class PictureEntry:
    """What a picture becomes before it is normalised; `data.fit` has the arithmetic."""

    color: Literal["rgb"]
    height: int
    width: int
    crop: str
    resize: str


@dataclass(frozen=True)
class NormaliseEntry:
    """How pixels become the float32 values that a network takes, for each of red, green and blue.

    Attributes:
        formula: in float32, a multiplication and then a subtraction, each rounded.
        scale: the float32 factors, written so that they are read back exactly; `shift` likewise.
        mean: what they were computed from, of pixels in 0..1; `std` likewise.
    """

    formula: Literal["x*scale-shift"]
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class BatchEntry:
    """How many pictures an artifact takes at a time; `max` is None where there is no limit."""

    min: int
    max: int | None


@dataclass(frozen=True)
class InputEntry:
    """The tensor that goes in. NCHW is normalised float32; NHWC is fitted pixels in uint8."""

    name: str
    dtype: Literal["float32", "uint8"]
    layout: Literal["NCHW", "NHWC"]
    shape: tuple[str | int, ...]
    batch: BatchEntry


@dataclass(frozen=True)
class OutputEntry:
    """The tensor that comes out."""

    name: str
    dtype: Literal["float32"]
    shape: tuple[str | int, ...]
    values: Literal["logits", "probabilities"]


@dataclass(frozen=True)
class RuntimeEntry:
    """The library that runs an artifact.

    Attributes:
        verified_version: the version that computed the golden logits, or that built the plan.
        accepts: which other versions may open the artifact.
        settings: options by the library's own names, with which the golden logits were computed.
    """

    name: RuntimeName
    verified_version: str
    accepts: Accepts
    settings: dict[str, str]


@dataclass(frozen=True)
class HardwareEntry:
    """What an artifact runs on.

    Attributes:
        arch: CPUs as `uname -m` names them.
        vnni: "required" if the sums of an x86 CPU without VNNI would overflow 16 bits.
        compute_capability: GPUs that a plan was built for, for example 89; empty for a CPU.
    """

    arch: tuple[str, ...]
    vnni: Literal["required", "not needed"]
    compute_capability: tuple[int, ...]


@dataclass(frozen=True)
class GoldenLogitsEntry:
    """What an artifact gives for the golden pictures.

    Attributes:
        logits: the file.
        snr_db: how near to them an artifact has to come on another machine.
        engine: the engine of skipfold that computed them. A plan that no GPU was there for has those of the
            reference evaluation of its graph.
    """

    logits: str
    snr_db: float
    engine: str


@dataclass(frozen=True)
class ToleranceEntry:
    """By which limits `verify` judged; see `verification.tolerances`."""

    snr_db: float
    agreement: float
    drop: float
    reason: str


@dataclass(frozen=True)
class VerdictEntry:
    """What `verify` found on the whole test split; `snr_db` is None where the logits are PyTorch's own."""

    passed: bool
    images: int
    snr_db: float | None
    agreement: float
    accuracy: float
    drop: float
    machine: Machine


@dataclass(frozen=True)
class ArtifactEntry:
    """One file with the library that runs it. A file that two libraries run has two entries.

    Attributes:
        verdict: None if `verify` has not judged the artifact.
    """

    id: str
    file: str
    format: Literal["onnx", "tensorrt plan", "tensorrt-rtx plan"]
    precision: Precision
    input: InputEntry
    output: OutputEntry
    runtime: RuntimeEntry
    hardware: HardwareEntry
    golden: GoldenLogitsEntry
    tolerance: ToleranceEntry
    verdict: VerdictEntry | None

    @property
    def is_verified(self) -> bool:
        """Whether `verify` has judged the artifact and found nothing out of tolerance."""
        return self.verdict is not None and self.verdict.passed


@dataclass(frozen=True)
class GoldenEntry:
    """The pictures that an artifact is tried with on the machine where it is to run."""

    count: int
    pictures: tuple[str, ...]
    fitted: str
    input: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class FileEntry:
    """What a file of the bundle has to be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class BundleDocument:
    """The whole of bundle.json.

    Attributes:
        artifacts: in order of preference.
        files: every file of the bundle but `UNLISTED`, by its path; a file that is not named is refused.
        unverified: whether an artifact has not passed `verify`.
    """

    schema: Literal["skipfold.bundle/1"]
    producer: str
    network: NetworkEntry
    classes: tuple[str, ...]
    picture: PictureEntry
    normalise: NormaliseEntry
    artifacts: tuple[ArtifactEntry, ...]
    golden: GoldenEntry
    files: dict[str, FileEntry]
    unverified: bool
