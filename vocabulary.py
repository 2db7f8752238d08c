"""The words that options, file names and tables have in common, once for the command line and the stages.

Every word is a string, so that it stands in JSON and in file names as it is. Engines, calibration methods,
recipes and reparametrizations are no words but tables (`runtimes.engines.ENGINES`,
`calibration.ranges.methods.METHODS`, `training.recipes.RECIPES` and
`calibration.rewriting.reparametrize.PASSES`): adding one is a row there.
"""

from enum import StrEnum


class Variant(StrEnum):
    """Where BN and ReLU stand in a residual block: behind the convolutions, or before them."""

    original = "original"
    preact = "preact"


class Block(StrEnum):
    """Two 3x3 convolutions, or a 3x3 convolution between two 1x1 ones."""

    basic = "basic"
    bottleneck = "bottleneck"


class DatasetName(StrEnum):
    """Where pictures and labels come from."""

    digits = "digits"
    cifar10 = "cifar10"
    cifar100 = "cifar100"
    imagefolder = "imagefolder"


class Precision(StrEnum):
    """The type that the convolutions of an artifact compute in."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"
    fp8 = "fp8"

    @property
    def is_quantized(self) -> bool:
        """Whether the artifact stores codes, which need ranges from calibration."""
        return self in (Precision.int8, Precision.fp8)


class Flavour(StrEnum):
    """The runtime that a quantized graph is written for; `any` is a graph without codes.

    `gpu` is for TensorRT and `rtx` for TensorRT for RTX, which fuse different patterns.
    """

    any = "any"
    gpu = "gpu"
    rtx = "rtx"
    cpu = "cpu"
    openvino = "openvino"


class Interface(StrEnum):
    """What goes into a graph and what comes out."""

    logits = "normalised float32 NCHW to logits"
    probabilities = "uint8 NHWC to probabilities"


class Device(StrEnum):
    """Where a network runs."""

    cpu = "cpu"
    cuda = "cuda"


class Arithmetic(StrEnum):
    """What a training computes in."""

    fp32 = "fp32"
    bf16 = "bf16"


class BuilderName(StrEnum):
    """TensorRT for RTX, or TensorRT."""

    rtx = "rtx"
    tensorrt = "tensorrt"


class Stream(StrEnum):
    """The type that the skip path of a quantized graph is kept in."""

    int8 = "int8"
    fp16 = "fp16"
    fp32 = "fp32"


class Saturation(StrEnum):
    """Which weights are kept so small that no two products overflow 16 bits: the stem's, all, or none."""

    stem = "stem"
    proved = "proved"
    full = "full"
