"""What TensorRT for RTX makes of the graphs for it, read from its list of final kernels, without a GPU."""

from functools import cache
from pathlib import Path

import pytest
from quantized_samples import float_graph, quantized_and_count
from sample_networks import TWO_BLOCKS, sample_card

from calibration.quantizing.scheme import RTX, RTX_FP8, Scheme
from graphs.narrow import Narrow
from graphs.onnx_file import write_graph
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.plan_from_onnx import plan_from_onnx
from runtimes.tensorrt.plan_layers import Layer, kernels_of, traffic
from runtimes.tensorrt.plan_options import PlanOptions, Profile

pytestmark = pytest.mark.skipif(BUILDERS["rtx"].version is None, reason="tensorrt-rtx is not installed")

BATCH = 32
ONE_PROFILE = PlanOptions(profiles=(Profile(1, BATCH, 128),))


@cache
def kernels(config, scheme, folder: Path) -> list[Layer]:
    """The kernels of a plan for sm89; of the float16 graph without a scheme."""
    path = (
        folder
        / f"{config.variant}-{config.depth}-{scheme and scheme.precision}-{scheme and scheme.flavour}.onnx"
    )
    if scheme is None:
        model = float_graph(config, absorbed=True)
        Narrow("fp16")(model)
        card = sample_card(config).with_precision("fp16")
    else:
        model, left = quantized_and_count(config, scheme, absorbed=True)
        card = sample_card(config).with_precision(scheme.precision, scheme.flavour, float_convolutions=left)
    write_graph(model, card, path)
    plan = plan_from_onnx(path, card, BUILDERS["rtx"], ("sm89",), ONE_PROFILE)
    return [*kernels_of(plan.evidence.layers, profile=0)]


def moved(found: list[Layer]) -> float:
    """Megabytes read and written at batch 32."""
    return traffic(found, 0, BATCH).moved_mb


def written(kernel: Layer) -> set[str]:
    """Types of what a kernel writes."""
    return {tensor.type for tensor in kernel.outputs}


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
    assert written(last) == {"float32"}
    assert all("float32" not in written(kernel) for kernel in others)


@EACH_NETWORK
def test_codes_behind_float16_convolutions_are_written_by_their_kernels(config, folder):
    """A rounding that the compiler takes for nothing would be gone from the name."""
    fused = [kernel.name for kernel in kernels(config, RTX, folder) if kernel.kind == "runtime_fusion"]
    with_codes = [name for name in fused if "AddAddCast" in name]
    assert with_codes
    assert not [name for name in fused if "Corr" in name and name not in with_codes]
