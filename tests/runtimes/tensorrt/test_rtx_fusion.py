"""What TensorRT for RTX makes of the graphs for it, read from its list of final kernels, without a GPU."""

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from quantized_samples import float_graph, quantized
from sample_networks import TWO_BLOCKS, sample_card

from calibration.quantizing.scheme import RTX, RTX_FP8, Scheme
from graphs.card import INPUT
from graphs.narrow import Narrow
from graphs.onnx_file import write_graph
from runtimes.tensorrt.package import BUILDERS

pytestmark = pytest.mark.skipif(BUILDERS["rtx"].version is None, reason="tensorrt-rtx is not installed")

BATCH = 32
BYTES = {"Float": 4, "Half": 2, "Int8": 1, "FP8": 1, "Int32": 4, "Int64": 8, "Bool": 1}
TENSOR = re.compile(
    r"Dimensions: \[([-0-9,]*)\], Strides: \[[^]]*\], StrideOrder: \[[^]]*\], Datatype: (\w+)"
)
KERNEL = re.compile(r"^Name: (\S+), LayerType: (\w+), (.*)$", re.MULTILINE)
NO_KERNELS = {"shape_call", "signal", "wait"}


@cache
def kernels(config, scheme, folder: Path) -> list[tuple[str, str, str]]:
    """Name, kind and description of each kernel; of the float16 graph without a scheme."""
    path = (
        folder
        / f"{config.variant}-{config.depth}-{scheme and scheme.precision}-{scheme and scheme.flavour}.onnx"
    )
    model = quantized(config, scheme, absorbed=True) if scheme else float_graph(config, absorbed=True)
    if scheme is None:
        Narrow("fp16")(model)
    write_graph(model, sample_card(config), path)
    return [found for found in KERNEL.findall(_layers(path)) if found[1] not in NO_KERNELS]


def _layers(path: Path) -> str:
    """The message of the builder that lists the kernels of a plan for sm89."""
    trt: Any = BUILDERS["rtx"].load()
    messages = []

    class Log(trt.ILogger):
        def log(self, severity, message):
            messages.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(path.read_bytes())
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *[(batch, 3, 32, 32) for batch in (1, BATCH, 128)])
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    assert builder.build_serialized_network(network, config) is not None
    return next(message for message in messages if message.startswith("Layers:"))


def moved(found) -> int:
    """Bytes read and written at batch 32."""
    tensors = [tensor for _, _, text in found for tensor in TENSOR.findall(text)]
    return sum(
        BYTES[kind] * math.prod(BATCH if size == "-1" else int(size) for size in shape.split(",") if size)
        for shape, kind in tensors
    )


def written(text: str) -> set[str]:
    """Types of what a kernel writes."""
    outputs = text.split("Outputs: [")[1].split("TacticName")[0]
    return {kind for _, kind in TENSOR.findall(outputs)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rtx")


EACH_NETWORK = pytest.mark.parametrize("config", TWO_BLOCKS, ids=lambda c: f"{c.variant}-{c.depth}")


@EACH_NETWORK
def test_int8_moves_less_than_fp16_in_no_more_kernels(config, folder):
    int8, half = kernels(config, RTX, folder), kernels(config, None, folder)
    assert moved(int8) < 0.92 * moved(half)
    assert len(int8) <= len(half)


@EACH_NETWORK
def test_gpu_flavour_moves_more_than_fp16(config, folder):
    """Twin, and why there is another flavour."""
    int8, half = kernels(config, Scheme("gpu"), folder), kernels(config, None, folder)
    assert moved(int8) > 1.5 * moved(half)
    assert len(int8) > len(half)


@pytest.mark.parametrize(
    "config", [c for c in TWO_BLOCKS if c.variant == "preact"], ids=lambda c: str(c.depth)
)
def test_fp8_moves_less_than_fp16_in_a_pre_activation_network(config, folder):
    fp8, half = kernels(config, RTX_FP8, folder), kernels(config, None, folder)
    assert moved(fp8) < 0.95 * moved(half)
    assert len(fp8) <= len(half)


@EACH_NETWORK
def test_no_kernel_but_the_last_writes_float32(config, folder):
    *others, last = kernels(config, RTX, folder)
    assert written(last[2]) == {"Float"}
    assert all("Float" not in written(text) for _, _, text in others)


@EACH_NETWORK
def test_codes_behind_float16_convolutions_are_written_by_their_kernels(config, folder):
    """A rounding that the compiler takes for nothing would be gone from the name."""
    fused = [name for name, kind, text in kernels(config, RTX, folder) if kind == "runtime_fusion"]
    with_codes = [name for name in fused if "AddAddCast" in name]
    assert with_codes
    assert not [name for name in fused if "Corr" in name and name not in with_codes]
