"""This module quantizes the sample networks and tells how ONNX Runtime would run them.

Ranges are min-max over `IMAGES`. Graphs are made once and handed out as copies.
"""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from sample_networks import FOUR_BLOCKS, absorbable_network, graph_of, op_types, sample_images, sample_network

from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scheme import FP8, STREAMS, Scheme
from calibration.ranges.methods import Method
from calibration.ranges.ranges_from_graph import Calibrated, calibrated, observe
from calibration.rewriting.reparametrize import DEFAULT_PASSES, reparametrize
from models.config import ResNetConfig, resnet_config

IMAGES = sample_images(8)
NETWORKS = [resnet_config(*named) for named in FOUR_BLOCKS]
CPU, OPENVINO = Scheme("cpu"), Scheme("openvino")
GPU = [Scheme("gpu", stream=stream) for stream in STREAMS["gpu"]]
INT8 = [CPU, OPENVINO, GPU[0]]
# There is one scheme for each file.
SCHEMES = [*INT8, FP8]


def named(scheme: Scheme) -> str:
    return f"{scheme.flavour}-{scheme.precision}-{scheme.stream}"


def config_named(config: ResNetConfig) -> str:
    return f"{config.variant}-{config.depth}"


every_network = pytest.mark.parametrize("network", NETWORKS, ids=config_named)
every_gpu_scheme = pytest.mark.parametrize("gpu_scheme", GPU, ids=named)


@cache
def _float_proto(config: ResNetConfig, absorbed: bool) -> onnx.ModelProto:
    if not absorbed:
        return ir.to_proto(graph_of(sample_network(config)))
    graph, passes = reparametrize(graph_of(absorbable_network(config)), DEFAULT_PASSES, IMAGES, 1e-5)
    assert not any(entry.refused for entry in passes)
    assert "BatchNormalization" not in op_types(graph)
    return ir.to_proto(graph)


def float_graph(config: ResNetConfig, absorbed: bool = False) -> ir.Model:
    """Return a float graph; if `absorbed`, the default passes have absorbed every BN."""
    return ir.from_proto(_float_proto(config, absorbed))


def calibrated_on(model: ir.Model, images: np.ndarray = IMAGES) -> dict[str, Calibrated]:
    return calibrated(observe(model, images), Method("minmax"))


@cache
def _calibrated(config: ResNetConfig, absorbed: bool) -> dict[str, Calibrated]:
    return calibrated_on(float_graph(config, absorbed))


def quantized(config: ResNetConfig, scheme: Scheme, absorbed: bool = False) -> ir.Model:
    return quantized_and_count(config, scheme, absorbed)[0]


def quantized_and_count(config: ResNetConfig, scheme: Scheme, absorbed: bool = False) -> tuple[ir.Model, int]:
    """Quantize, and count the convolutions that stay float."""
    model = float_graph(config, absorbed)
    result = Quantize(_calibrated(config, absorbed), scheme)(model)
    return model, len(result.refused)


@cache
def shared_graph(config: ResNetConfig, scheme: Scheme) -> ir.Model:
    """Return a quantized graph that is made once for all tests, which must not change this graph."""
    return quantized(config, scheme)


def nodes_of(model: ir.Model, *wanted: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in wanted]


def dtype_of(value: ir.Value) -> ir.DataType:
    """Return the type of a constant."""
    return value.const_value.dtype


def real_of(gpu_scheme: Scheme) -> ir.DataType:
    """Return the type of what a scheme for GPUs does not quantize."""
    return ir.DataType.FLOAT if gpu_scheme.stream == "fp32" else ir.DataType.FLOAT16


def pair_of(value: ir.Value) -> tuple[ir.Node, ir.Node]:
    """Return the QuantizeLinear and DequantizeLinear between a tensor and a reader."""
    dequantize = value.producer()
    assert dequantize.op_type == "DequantizeLinear"
    quantize = dequantize.inputs[0].producer()
    assert quantize.op_type == "QuantizeLinear"
    # The pair is one: both read the same scale and zero point.
    assert quantize.inputs[1:] == dequantize.inputs[1:]
    return quantize, dequantize


def snr_db(expected: np.ndarray, actual: np.ndarray) -> float:
    return float(10 * np.log10((expected**2).sum() / ((expected - actual) ** 2).sum()))


def optimized_operators(model: ir.Model, folder: Path) -> list[str]:
    """List operators in order of execution, as ONNX Runtime runs a graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]
