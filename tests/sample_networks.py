"""Small networks for the tests of graphs, export and calibration, none of them trained.

Their BN statistics are random, with negative and small slopes among them: fresh statistics (mean 0,
variance 1, slope 1) would hide most mistakes of folding and conversion.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import nn

from export.onnx_from_model import onnx_from_model
from graphs.card import GraphCard
from models.config import VARIANTS, ResNetConfig, resnet_config
from models.resnet import ResNet

# Two blocks a stage, so that every stage has identity skips.
TWO_BLOCKS = [
    resnet_config(variant, depth, block)
    for variant in VARIANTS
    for depth, block in ((14, "basic"), (20, "bottleneck"))
]
# Depth 8 has basic blocks and depth 11 bottlenecks, one block a stage.
FOUR_BLOCKS = [("preact", 8), ("preact", 11), ("original", 8), ("original", 11)]


def randomise_batchnorm(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.2, 1.5, generator=generator)
            module.weight.data[::5] *= -1
            module.bias.data.normal_(0, 0.5, generator=generator)
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.05, 2, generator=generator)


def sample_network(config: ResNetConfig, seed: int = 0) -> ResNet:
    """In evaluation mode, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ResNet(config)
    randomise_batchnorm(model, seed)
    return model.eval()


def absorbable_network(config: ResNetConfig, seed: int = 0) -> ResNet:
    """With slopes above 0 and offsets of at most a few of them: every BN can be absorbed."""
    model = sample_network(config, seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.abs_()
            module.bias.data.clamp_(-1.5 * module.weight.data, 1.5 * module.weight.data)
    return model


def network_with_dead_parts() -> ResNet:
    """A pre-activation ResNet-8 with a tensor that is zero throughout, and with channels of zero weights."""
    model = sample_network(resnet_config("preact", 8))
    dead = model.get_submodule("stage2.0.residual.bn2")
    dead.weight.data.zero_()
    # The ReLU then writes zeros alone, behind weights that fold to zero.
    dead.bias.data.fill_(-1)
    model.get_submodule("stage3.0.residual.conv1").weight.data[::2] = 0
    model.get_submodule("stem.conv").weight.data[3] = 0
    return model


def graph_of(model: ResNet) -> ir.Model:
    """The float graph as it is read from a file: with the shapes of all tensors."""
    graph, _ = onnx_from_model(model)
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(graph)))


def sample_graph(config: ResNetConfig, seed: int = 0) -> ir.Model:
    return graph_of(sample_network(config, seed))


def sample_card(config: ResNetConfig) -> GraphCard:
    return GraphCard(
        variant=config.variant,
        depth=config.depth,
        block=config.block,
        dataset="digits",
        classes=tuple(f"class {n}" for n in range(config.num_classes)),
        mean=(0.5,) * config.in_channels,
        std=(0.25,) * config.in_channels,
        trained=False,
        checkpoint="0" * 64,
    )


def sample_images(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Normalised images float32 [count, channels, 32, 32]."""
    return np.random.default_rng(seed).standard_normal((count, channels, 32, 32), np.float32)


def run_graph(
    model: ir.Model | Path, images: np.ndarray, optimized: bool = True, outputs: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Run a graph in ONNX Runtime; not `optimized`, each operator computes what ONNX defines."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model.read_bytes() if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(outputs, {session.get_inputs()[0].name: images})


def relative_error(expected: np.ndarray, actual: np.ndarray) -> float:
    """sqrt(sum (y - z)^2 / sum y^2)."""
    difference = expected.astype(np.float64) - actual
    return float(np.sqrt(np.square(difference).sum() / np.square(expected, dtype=np.float64).sum()))


def node_named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def op_types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
