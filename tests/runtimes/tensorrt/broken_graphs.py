"""Small graphs that TensorRT refuses, misreads or runs slowly, each with a twin that only lacks the mistake.

Every graph is a residual block of 8 channels: images -> stem -> conv -> Add with the skip path -> Relu ->
logits. `BROKEN` names the mistakes; `graph_with` makes a graph from a set of changes of the default, which
is right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8
_NUMPY = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
}


@dataclass(frozen=True)
class Choices:
    """What a graph is made of. The default is a graph that TensorRT takes as it is meant."""

    real: int = TensorProto.FLOAT16
    codes: int = TensorProto.INT8
    weight_codes: int | None = None
    zero_point: float = 0
    has_zero_point: bool = True
    scale: float = 0.05
    scales_of_data: int = 1
    axis: int = 0
    is_scale_constant: bool = True
    data_quantized: bool = True
    weights_quantized: bool = True
    bias_codes: bool = False
    pair_before_add: tuple[str, ...] = ("skip",)
    projection: bool = False
    name: str = "conv"
    head: str = "Relu"
    opset: int = 21
    quantized: bool = True


@dataclass(frozen=True)
class Broken:
    """One mistake.

    Attributes:
        changes: of `Choices`, which make the mistake; `twin` are those of the graph without the mistake.
        node: that the finding names; `words` stand in what it says.
        targets: GPUs that the graph is for; `twin_targets` those of the twin.
    """

    node: str
    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    twin: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("sm89",)
    twin_targets: tuple[str, ...] = ("sm89",)


FLOAT = {"quantized": False}
BFLOAT16 = {"real": TensorProto.BFLOAT16, "opset": 22}  # The first opset whose Conv takes bfloat16.
FLOAT8 = {"codes": TensorProto.FLOAT8E4M3FN}
BROKEN = {
    "uint8 codes": Broken("data.quantize", "uint8", {"codes": TensorProto.UINT8}),
    "no zero point, which means uint8": Broken("data.quantize", "uint8", {"has_zero_point": False}),
    "int16 codes": Broken("data.quantize", "int16", {"codes": TensorProto.INT16}),
    "E5M2 codes": Broken("data.quantize", "float8e5m2", {"codes": TensorProto.FLOAT8E5M2}, FLOAT8),
    "int4 weights": Broken("conv.weight.dequantize", "int4", {"weight_codes": TensorProto.INT4}),
    "zero point of -128": Broken("data.quantize", "zero point", {"zero_point": -128}),
    "zero point of 3": Broken("data.quantize", "zero point", {"zero_point": 3}),
    "int32 bias": Broken("conv.bias.dequantize", "bias", {"bias_codes": True}),
    "pair between conv and Add": Broken("conv.quantize", "Add add", {"pair_before_add": ("conv",)}),
    "pairs on both sides of the Add": Broken(
        "conv.quantize",
        "Add add",
        {"projection": True, "pair_before_add": ("conv", "skip")},
        {"projection": True},
    ),
    "scale of each channel of the data": Broken("data.quantize", "per tensor", {"scales_of_data": CHANNELS}),
    "weights scaled along their inputs": Broken("conv.weight.dequantize", "axis 1", {"axis": 1}),
    "float weights": Broken("conv", "weights", {"weights_quantized": False}),
    "float data": Broken("conv", "data", {"data_quantized": False}),
    "int8 data and FP8 weights": Broken("conv", "float8", {"weight_codes": TensorProto.FLOAT8E4M3FN}),
    "scale of 0": Broken("data.quantize", "scale", {"scale": 0.0}),
    "negative scale": Broken("data.quantize", "scale", {"scale": -0.05}),
    "scale that is no number": Broken("data.quantize", "scale", {"scale": np.nan}),
    "scale that is computed": Broken("data.quantize", "constant", {"is_scale_constant": False}),
    "nameless convolution": Broken("convolution 2", "name", {"name": ""}),
    "two nodes of one name": Broken("relu", "name", {"name": "relu"}),
    "double": Broken("stem", "float64", FLOAT | {"real": TensorProto.DOUBLE}, FLOAT),
    "operator of ONNX Runtime": Broken("head", "QLinearSigmoid", {"head": "com.microsoft:QLinearSigmoid"}),
    "integer operator": Broken("head", "ConvInteger", {"head": "ConvInteger"}),
    "opset without float16 scales": Broken("opset", "17", {"opset": 17, "real": TensorProto.FLOAT}),
    "INT8 on Turing": Broken("conv", "sm75", targets=("sm75",), twin_targets=("sm80",)),
    "INT8 on Turing among others": Broken("conv", "sm75", targets=("sm75", "sm89")),
    "FP8 on Ampere": Broken("conv", "sm86", FLOAT8, FLOAT8, targets=("sm86",)),
    "bfloat16 on Turing": Broken(
        "stem",
        "sm75",
        FLOAT | BFLOAT16,
        FLOAT | BFLOAT16,
        targets=("sm75",),
        twin_targets=("sm80",),
    ),
    "float32 matrix product on Turing": Broken(
        "head",
        "sm75",
        FLOAT | {"real": TensorProto.FLOAT, "head": "Gemm"},
        FLOAT | {"head": "Gemm"},
        targets=("sm75",),
        twin_targets=("sm75",),
    ),
}


def graph_with(**changes: Any) -> onnx.ModelProto:
    """The graph of `Choices` with some of them changed."""
    return _Maker(Choices(**changes)).model()


class _Maker:
    """Collects the nodes and constants of one graph."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs = [_value("images", choices.real, ["batch", CHANNELS, 8, 8])]

    def model(self) -> onnx.ModelProto:
        c = self.choices
        self.conv("images", "stem", quantized=False)
        stem = "stem.relu"
        self.node("Relu", ["stem"], stem)
        data = self.pair(stem, "data", c.scales_of_data) if c.quantized and c.data_quantized else stem
        conv = self.conv(data, c.name, quantized=c.quantized and c.weights_quantized)
        skip = self.conv(data, "projection", quantized=c.quantized) if c.projection else stem
        if c.quantized:
            skip = self.pair(skip, "skip") if "skip" in c.pair_before_add else skip
            conv = self.pair(conv, "conv") if "conv" in c.pair_before_add else conv
        self.node("Add", [conv, skip], "add")
        self.node("Relu", ["add"], "relu")
        output = self.head()
        graph = helper.make_graph(self.nodes, "block", self.inputs, [output], self.constants)
        opsets = [helper.make_opsetid("", c.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def head(self) -> onnx.ValueInfoProto:
        real, kind = self.choices.real, self.choices.head
        if kind == "Gemm":
            self.node("GlobalAveragePool", ["relu"], "pool")
            self.node("Flatten", ["pool"], "flat")
            self.constant("head.weight", np.ones((CHANNELS, 10)), real)
            self.node("Gemm", ["flat", "head.weight"], "head")
            return _value("head", real, ["batch", 10])
        if kind == "ConvInteger":
            self.node("Cast", ["relu"], "cast", to=TensorProto.INT8)
            self.constant("head.weight", np.ones((CHANNELS, CHANNELS, 1, 1)), TensorProto.INT8)
            self.node("ConvInteger", ["cast", "head.weight"], "head")
            return _value("head", TensorProto.INT32, ["batch", CHANNELS, 8, 8])
        domain, _, name = kind.rpartition(":")
        self.node(name, ["relu"], "head", domain=domain)
        return _value("head", real, ["batch", CHANNELS, 8, 8])

    def conv(self, data: str, name: str, quantized: bool) -> str:
        output = name if name not in ("", "relu") else "conv"
        shape, real = (CHANNELS, CHANNELS, 3, 3), self.choices.real
        weights = np.random.default_rng(len(self.nodes)).integers(-7, 8, shape)
        if quantized:
            codes = self.choices.weight_codes or self.choices.codes
            self.constant(f"{output}.weight.codes", weights, _signed(codes))
            scales = self.constant(f"{output}.weight.scales", np.full(CHANNELS, 0.05), self._scale_type())
            weight = self.dequantize(f"{output}.weight.codes", scales, f"{output}.weight", self.choices.axis)
        else:
            weight = self.constant(f"{output}.weight", weights * 0.05, real)
        self.nodes.append(
            helper.make_node(
                "Conv", [data, weight, self.bias(output)], [output], name, pads=[1] * 4, kernel_shape=[3, 3]
            )
        )
        return output

    def bias(self, conv: str) -> str:
        if not (self.choices.bias_codes and conv == "conv"):
            return self.constant(f"{conv}.bias", np.zeros(CHANNELS), self.choices.real)
        codes = self.constant(f"{conv}.bias.codes", np.zeros(CHANNELS), TensorProto.INT32)
        scales = self.constant(f"{conv}.bias.scales", np.full(CHANNELS, 0.05), self._scale_type())
        return self.dequantize(codes, scales, f"{conv}.bias", 0)

    def pair(self, value: str, name: str, scales: int = 1) -> str:
        """QuantizeLinear and DequantizeLinear."""
        c = self.choices
        shape = () if scales == 1 else (scales,)
        if c.is_scale_constant or name != "data":
            scale = self.constant(f"{name}.scale", np.full(shape, c.scale), self._scale_type())
        else:
            scale = f"{name}.scale"
            self.inputs.append(_value(scale, c.real, []))
        operands = [value, scale]
        if c.has_zero_point:
            operands.append(self.constant(f"{name}.zero", np.full(shape, c.zero_point), c.codes))
        axis = {"axis": 1} if scales > 1 else {}
        self.nodes.append(
            helper.make_node("QuantizeLinear", operands, [f"{name}.codes"], f"{name}.quantize", **axis)
        )
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{name}.codes", *operands[1:]],
                [f"{name}.real"],
                f"{name}.dequantize",
                **axis,
            )
        )
        return f"{name}.real"

    def dequantize(self, codes: str, scales: str, name: str, axis: int) -> str:
        self.node("DequantizeLinear", [codes, scales], f"{name}.real", f"{name}.dequantize", axis=axis)
        return f"{name}.real"

    def node(self, kind: str, inputs: list[str], output: str, name: str = "", **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name or output, **attributes))

    def constant(self, name: str, array: np.ndarray, kind: int) -> str:
        if kind in _NUMPY:
            tensor = numpy_helper.from_array(np.asarray(array, _NUMPY[kind]), name)
        else:
            array = np.asarray(array)
            tensor = helper.make_tensor(name, kind, array.shape, array.ravel().tolist())
        self.constants.append(tensor)
        return name

    def _scale_type(self) -> int:
        return TensorProto.FLOAT if self.choices.opset < 19 else self.choices.real


def _signed(codes: int) -> int:
    """Weights have signed codes, whatever the data has."""
    return {TensorProto.UINT8: TensorProto.INT8}.get(codes, codes)


def _value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
