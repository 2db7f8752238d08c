"""Convert a PyTorch network to an ONNX graph.

torch.fx traces the network, so that `forward` stays the only definition, and each traced call becomes one
ONNX node with the name of the PyTorch module, for example `stage2.0.residual.conv1`. Ranges, reports and
error messages refer to tensors by these names. torch.onnx.export gives the same graph, which a test
compares, but invents other names and takes 41 s instead of 2 s at depth 1001.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

from data.dataset import IMAGE_SIZE
from export.fold import FoldBatchnorm
from graphs.card import INPUT, OUTPUT
from graphs.onnx_file import IR_VERSION, OPSET, initializer
from graphs.passes import PassResult
from models.resnet import ResNet


def onnx_from_model(model: ResNet) -> tuple[ir.Model, PassResult]:
    """Trace a network in evaluation mode, fold BN into its convolutions, and convert it.

    Returns:
        a graph from `images` float32 [batch, 3, 32, 32] to `logits` float32 [batch, classes], and the names
        of the BN layers that were folded and that stay.

    Raises:
        NotImplementedError: the network calls a module or function without a converter in this module.
    """
    traced = fx.symbolic_trace(_copy_of(model))
    folded = FoldBatchnorm()(traced)
    images = ir.Value(
        name=INPUT,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(["batch", model.config.in_channels, IMAGE_SIZE, IMAGE_SIZE]),
    )
    graph = ir.Graph([images], [], nodes=[], name="skipfold", opset_imports={"": OPSET})
    values: dict[fx.Node, ir.Value] = {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            values[node] = images
        elif node.op == "output":
            logits = values[node.args[0]]
            logits.name = OUTPUT
            logits.type = ir.TensorType(ir.DataType.FLOAT)
            logits.shape = ir.Shape(["batch", model.config.num_classes])
            graph.outputs.append(logits)
        else:
            values[node] = _converted(graph, traced, node, values)
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="skipfold"), folded


def _copy_of(model: ResNet) -> ResNet:
    """Return a float32 copy on the CPU, because folding changes the network."""
    copy = ResNet(model.config)
    copy.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    return copy.eval()


def _converted(
    graph: ir.Graph, traced: fx.GraphModule, node: fx.Node, values: dict[fx.Node, ir.Value]
) -> ir.Value:
    name, module = _name_of(node), None
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        converter = _MODULES.get(type(module))
    else:
        converter = _FUNCTIONS.get(node.target)
    inputs = [values[source] for source in node.args if isinstance(source, fx.Node)]
    if converter is None or len(inputs) != len(node.args):
        raise NotImplementedError(f"no ONNX conversion for {node.format_node()}")
    op_type, parameters, attributes = converter(module)
    for suffix, tensor in parameters.items():
        inputs = [*inputs, initializer(graph, f"{name}.{suffix}", tensor)]
    converted = ir.node(op_type, inputs, attributes, name=name)
    converted.outputs[0].name = name
    graph.append(converted)
    return converted.outputs[0]


def _name_of(node: fx.Node) -> str:
    """Return the path of a module, or for a function the path of the module whose forward calls it."""
    if node.op == "call_module":
        return str(node.target)
    path = list(node.meta["nn_module_stack"])[-1]
    return f"{path}.{node.name.split('_')[0]}"


# The operator, the parameters by the suffix of their names, and the attributes of an ONNX node.
Conversion = tuple[str, dict[str, np.ndarray], dict[str, Any]]


def _array(tensor: torch.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().numpy().copy()


def _conv(conv: nn.Conv2d) -> Conversion:
    parameters = {"weight": _array(conv.weight)}
    if conv.bias is not None:
        parameters["bias"] = _array(conv.bias)
    attributes = {
        "kernel_shape": list(conv.kernel_size),
        "strides": list(conv.stride),
        "pads": [int(p) for p in conv.padding] * 2,
        "dilations": list(conv.dilation),
        "group": conv.groups,
    }
    return "Conv", parameters, attributes


def _batchnorm(bn: nn.BatchNorm2d) -> Conversion:
    parameters = {
        "weight": _array(bn.weight),
        "bias": _array(bn.bias),
        "mean": _array(bn.running_mean),
        "var": _array(bn.running_var),
    }
    return "BatchNormalization", parameters, {"epsilon": bn.eps}


def _linear(linear: nn.Linear) -> Conversion:
    parameters = {"weight": _array(linear.weight), "bias": _array(linear.bias)}
    return "Gemm", parameters, {"transB": 1}


def _plain(op_type: str) -> Callable[[Any], Conversion]:
    return lambda module: (op_type, {}, {})


_MODULES: dict[type, Callable[[Any], Conversion]] = {
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batchnorm,
    nn.Linear: _linear,
    nn.ReLU: _plain("Relu"),
    nn.AdaptiveAvgPool2d: _plain("GlobalAveragePool"),
    nn.Flatten: _plain("Flatten"),
}
_FUNCTIONS: dict[Any, Callable[[Any], Conversion]] = {operator.add: _plain("Add")}
