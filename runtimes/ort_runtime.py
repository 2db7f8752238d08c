"""ONNX Runtime, in float32 and INT8 on the CPU and in float32 and FP16 on CUDA."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnx_ir as ir
import onnxruntime

from errors import UserError
from graphs.card import Batch, GraphCard
from graphs.evaluation import session_options
from graphs.onnx_file import graph_from_file
from graphs.rounding import ExplicitRounding
from runtimes.runtime import Runtime
from vocabulary import Device, Flavour, Precision

_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disable": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_MODES = {"sequential": onnxruntime.ExecutionMode.ORT_SEQUENTIAL}
_PROVIDERS = {Device.cpu: "CPUExecutionProvider", Device.cuda: "CUDAExecutionProvider"}


class OrtRuntime(Runtime):
    """Runs an ONNX file with all graph optimizations."""

    name = "ort"
    title = "ONNX Runtime"
    supports = frozenset(
        {
            (Device.cpu, Precision.fp32),
            (Device.cpu, Precision.int8),
            (Device.cuda, Precision.fp32),
            (Device.cuda, Precision.fp16),
        }
    )
    refusal = (
        "ONNX Runtime has no float16 kernels for CPUs and no quantized convolution for CUDA",
        "use --precision fp32 or int8 on the CPU, fp32 or fp16 on CUDA, or --engine trt",
    )
    settings: ClassVar[Mapping[str, str]] = {
        "graph_optimization_level": "all",
        "execution_mode": "sequential",
        "inter_op_num_threads": "1",
    }

    def _open(self) -> GraphCard:
        card = self._checked_card()
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder, "optimized.onnx")
            self._session = self._session_for(optimized)
            self._operators = _operators_in(optimized)
        if self.precision == Precision.int8:
            self._require_integer(self._left_float(card), self._operators)
        return card

    def _session_for(self, optimized: Path) -> onnxruntime.InferenceSession:
        options = session_options(self.threads)
        options.graph_optimization_level = _LEVELS[self.settings["graph_optimization_level"]]
        options.execution_mode = _MODES[self.settings["execution_mode"]]
        options.inter_op_num_threads = int(self.settings["inter_op_num_threads"])
        options.optimized_model_filepath = str(optimized)
        provider = _PROVIDERS[self.device]
        if provider not in onnxruntime.get_available_providers():
            raise UserError(
                f"this ONNX Runtime has no {provider}",
                "pip install onnxruntime-gpu (Linux and Windows, x86-64), or use --device cpu",
            )
        # The CUDA provider would compute float32 convolutions in TF32, which keeps 10 bits of a mantissa.
        settings = {"use_tf32": "0"} if self.device == Device.cuda else {}
        session = onnxruntime.InferenceSession(self._graph(), options, providers=[(provider, settings)])
        # ONNX Runtime drops a provider that cannot load, writes one line to the log and uses the CPU.
        if session.get_providers()[0] != provider:
            raise UserError(
                f"ONNX Runtime could not load {provider}",
                "install the CUDA and cuDNN versions it was built for, or use --device cpu",
            )
        return session

    def _graph(self) -> str | bytes:
        return str(self.path)

    def _left_float(self, card: GraphCard) -> str:
        """Return "convolutions" or "additions" if ONNX Runtime left some in float that the file quantizes.

        The result is empty if there are none.
        """
        if not self._operators["QLinearConv"] or self._operators["Conv"] != card.float_convolutions:
            return "convolutions"
        # ONNX Runtime silently leaves some additions in float, for example one whose operands have uint8
        # codes and whose sum has int8 codes.
        quantized = quantized_additions(onnx.load(self.path, load_external_data=False).graph)
        return "additions" if self._operators["QLinearAdd"] != quantized else ""

    def _infer(self, images: Batch) -> Batch:
        return self._session.run(None, {self._session.get_inputs()[0].name: images})[0]

    def _close(self) -> None:
        del self._session

    def describe(self) -> dict[str, Any]:
        return {
            "version": onnxruntime.__version__,
            "device": self._session.get_providers()[0],
            "threads": self.threads,
            "convolutions": {name: n for name, n in self._operators.items() if "Conv" in name},
        }


class ReferenceRuntime(OrtRuntime):
    """Evaluates a graph operator by operator, as ONNX defines it, on the CPU.

    The logits show what a graph for other hardware computes: 16-bit tensors are rounded after every
    operator, and each QuantizeLinear and DequantizeLinear, FP8 included, is computed as it is written. The
    evaluation is slow, so its latency is never reported.
    """

    name = "reference"
    supports = frozenset((Device.cpu, precision) for precision in Precision)
    refusal = ("the reference evaluates on the CPU alone", "use --device cpu")
    flavours = frozenset(Flavour)
    integer_kernels = False
    settings: ClassVar[Mapping[str, str]] = {**OrtRuntime.settings, "graph_optimization_level": "disable"}

    def _graph(self) -> bytes:
        model = graph_from_file(self.path)
        # ONNX Runtime has no 16-bit kernels for CPUs. Without explicit rounding it would compute such a
        # graph in float32 from end to end, or refuse it.
        ExplicitRounding()(model)
        return ir.to_proto(model).SerializeToString()

    def _left_float(self, card: GraphCard) -> str:
        return ""


class RtxReferenceRuntime(ReferenceRuntime):
    """Evaluates the quantized graphs that are made for TensorRT for RTX and not for TensorRT."""

    name = "reference-rtx"
    supports = frozenset({(Device.cpu, Precision.int8), (Device.cpu, Precision.fp8)})
    refusal = (
        "this engine evaluates on the CPU what is made for TensorRT for RTX alone",
        "use --precision int8 or fp8, or --engine reference",
    )
    flavours = frozenset({Flavour.rtx})


def quantized_additions(graph: onnx.GraphProto) -> int:
    """Count the Adds of a Q/DQ graph whose operands are dequantized and whose sum is quantized.

    A Relu may stand between the Add and the QuantizeLinear.
    """
    producers = {name: node.op_type for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def is_quantized(total: str) -> bool:
        after = readers[total]
        if len(after) == 1 and after[0].op_type == "Relu":
            after = readers[after[0].output[0]]
        return bool(after) and all(node.op_type == "QuantizeLinear" for node in after)

    return sum(
        {producers.get(name) for name in node.input} == {"DequantizeLinear"} and is_quantized(node.output[0])
        for node in graph.node
        if node.op_type == "Add"
    )


def _operators_in(optimized: Path) -> Counter[str]:
    """Count the convolutions and quantized additions of a graph that ONNX Runtime has optimized.

    A fused float convolution counts as "Conv". A BatchNormalization between float convolutions in the
    blocked layout, which ONNX Runtime runs as one more convolution, is not counted.
    """
    graph = onnx.load(optimized, load_external_data=False).graph
    names = {"FusedConv": "Conv", "NhwcFusedConv": "Conv"}
    return Counter(
        names.get(node.op_type, node.op_type)
        for node in graph.node
        if ("Conv" in node.op_type or node.op_type == "QLinearAdd") and not node.name.endswith("_bn_nchwc")
    )
