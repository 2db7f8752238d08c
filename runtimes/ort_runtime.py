"""ONNX Runtime: float32 and INT8 on the CPU, float32 and FP16 on CUDA."""

import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime

from errors import CheckFailed, UserError
from graphs.card import FLAVOURS, PRECISIONS, Batch, GraphCard
from graphs.onnx_file import graph_from_file
from graphs.rounding import make_rounding_explicit
from runtimes.runtime import Runtime
from vocabulary import Flavour

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtRuntime(Runtime):
    """Runs an ONNX file with all graph optimizations."""

    name = "ort"
    supports = frozenset({("cpu", "fp32"), ("cpu", "int8"), ("cuda", "fp32"), ("cuda", "fp16")})
    refusal = (
        "its CPU kernels have no float16 and its CUDA kernels no quantized convolution",
        "use --precision fp32 or int8 on the CPU, fp32 or fp16 on CUDA, or --engine trt",
    )
    _optimization = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL

    def _open(self) -> GraphCard:
        card = self._checked_card()
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder, "optimized.onnx")
            self._session = self._session_for(optimized)
            self._operators = _operators_in(optimized)
        if self.precision == "int8" and (kind := self._left_float(card)):
            raise CheckFailed(
                f"ONNX Runtime runs {self.path.name} with float {kind} ({dict(self._operators)})",
                "calibrate again with this version of skipfold",
            )
        return card

    def _session_for(self, optimized: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = self._optimization
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3
        # Workers that go on spinning after a call slow down whatever is measured next to this.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        provider = _PROVIDERS[self.device]
        if provider not in onnxruntime.get_available_providers():
            raise UserError(
                f"this ONNX Runtime has no {provider}", "install onnxruntime-gpu, or use --device cpu"
            )
        # CUDA would run float32 convolutions in TF32 by itself.
        settings = {"use_tf32": "0"} if self.device == "cuda" else {}
        session = onnxruntime.InferenceSession(self._graph(), options, providers=[(provider, settings)])
        # A provider that cannot load is dropped with a log line, and the CPU is used.
        if session.get_providers()[0] != provider:
            raise UserError(
                f"ONNX Runtime could not load {provider}",
                "install the CUDA and cuDNN versions it was built for, or use --device cpu",
            )
        return session

    def _graph(self) -> str | bytes:
        return str(self.path)

    def _left_float(self, card: GraphCard) -> str:
        """What runs in float though it is quantized in the file; empty if nothing does."""
        if not self._operators["QLinearConv"] or self._operators["Conv"] != card.float_convolutions:
            return "convolutions"
        # An Add whose sum has codes of another type than its operands, say, is left in float without a word.
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

    For the numerics of graphs meant for other hardware: tensors of 16 bits are rounded after every
    operator and Q/DQ pairs, FP8 among them, are executed as they stand. It is slow, and no latency is
    claimed of it.
    """

    name = "reference"
    supports = frozenset(("cpu", precision) for precision in PRECISIONS)
    refusal = ("it evaluates on the CPU", "use --device cpu")
    flavours = frozenset(FLAVOURS)
    integer_kernels = False
    _optimization = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def _graph(self) -> bytes:
        model = graph_from_file(self.path)
        # Without 16-bit kernels, ONNX Runtime computes in float32 from end to end, or not at all.
        make_rounding_explicit(model)
        return ir.to_proto(model).SerializeToString()

    def _left_float(self, card: GraphCard) -> str:
        return ""


class RtxReferenceRuntime(ReferenceRuntime):
    """Evaluates the quantized graphs that are made for TensorRT for RTX and not for TensorRT."""

    name = "reference-rtx"
    supports = frozenset({("cpu", "int8"), ("cpu", "fp8")})
    refusal = (
        "it evaluates what is made for TensorRT for RTX alone, on the CPU",
        "use --precision int8 or fp8, or --engine reference",
    )
    flavours = frozenset({Flavour.rtx})


def quantized_additions(graph: onnx.GraphProto) -> int:
    """How many Adds of a Q/DQ graph have dequantized operands and a quantized sum, behind a Relu or not."""
    producers = {name: node.op_type for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def is_quantized(name: str) -> bool:
        own = readers[name]
        if len(own) == 1 and own[0].op_type == "Relu":
            own = readers[own[0].output[0]]
        return bool(own) and all(node.op_type == "QuantizeLinear" for node in own)

    return sum(
        {producers.get(name) for name in node.input} == {"DequantizeLinear"} and is_quantized(node.output[0])
        for node in graph.node
        if node.op_type == "Add"
    )


def _operators_in(optimized: Path) -> Counter[str]:
    """Convolutions and quantized sums of the graph as ONNX Runtime runs it, fused ones under their names.

    Between float convolutions in its blocked layout it runs a BatchNormalization as one more: not counted.
    """
    graph = onnx.load(optimized, load_external_data=False).graph
    names = {"FusedConv": "Conv", "NhwcFusedConv": "Conv"}
    return Counter(
        names.get(node.op_type, node.op_type)
        for node in graph.node
        if ("Conv" in node.op_type or node.op_type == "QLinearAdd") and not node.name.endswith("_bn_nchwc")
    )
