"""Engines that the tests build with TensorRT for RTX, whatever package this machine would choose."""

from pathlib import Path

import onnx
import pytest
from sample_networks import sample_card

from artifacts.run_directory import RunDirectory
from models.config import resnet_config
from runtimes.tensorrt.engine_from_onnx import engine_from_onnx
from runtimes.tensorrt.package import BUILDERS

RTX = BUILDERS["rtx"]
FP32 = sample_card(resnet_config("preact", 8))
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "fp8": "float8"}

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


def build_with_rtx(
    run: RunDirectory, precision: str, targets: tuple[str, ...] = (), force: bool = False
) -> tuple[str, bool]:
    """Build an engine; return the engine's name and whether anything was done."""
    return engine_from_onnx(run, precision, targets, "rtx", force)


def convolutions_in(path: Path) -> int:
    """Count the convolutions of an ONNX file."""
    return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
