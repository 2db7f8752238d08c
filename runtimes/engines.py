"""The table of engines. A new engine needs a row here and an adapter; no other list names the engines."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from artifacts.names import (
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_INT8_RTX,
)
from errors import UserError
from vocabulary import BuilderName, Device, Precision

if TYPE_CHECKING:
    from runtimes.runtime import Runtime

# The graphs that are made for TensorRT.
GPU_GRAPHS: Mapping[str, str] = {
    Precision.fp32: MODEL,
    Precision.fp16: MODEL_FP16,
    Precision.bf16: MODEL_BF16,
    Precision.int8: MODEL_INT8_GPU,
    Precision.fp8: MODEL_FP8_GPU,
}
# Those that are made for TensorRT for RTX alone.
RTX_QUANTIZED: Mapping[str, str] = {Precision.int8: MODEL_INT8_RTX, Precision.fp8: MODEL_FP8_RTX}
# What each builder is given.
GRAPHS_OF_BUILDERS: Mapping[str, Mapping[str, str]] = {
    BuilderName.tensorrt: GPU_GRAPHS,
    BuilderName.rtx: {**GPU_GRAPHS, **RTX_QUANTIZED},
}


@dataclass(frozen=True)
class EngineSpec:
    """One row of the table: what distinguishes one engine from the others.

    Attributes:
        name: the name of the engine, as `--engine` and every table have it.
        adapter: the `Runtime` of the engine as "module:class". The module is imported only when the engine
            is used, because each adapter loads a framework.
        graphs: the ONNX file of each precision; empty for an engine that opens weights.
        colour: the colour of the engine in plots.
        opens_plans: whether the engine opens plans, which are built from the graphs first.
        only_device: the device that the engine runs on, if there is only one.
        by_default: whether a command that names no engine uses this engine, and a search times it.
        is_timed: whether the latency of the engine means anything.
    """

    name: str
    adapter: str
    graphs: Mapping[str, str]
    colour: str
    opens_plans: bool = False
    only_device: Device | None = None
    by_default: bool = False
    is_timed: bool = True

    @property
    def opens_weights(self) -> bool:
        """Whether the engine is PyTorch, which runs the trained weights themselves."""
        return not self.graphs

    def device(self, wanted: str) -> str:
        """Return the only device of the engine, or else the `wanted` one."""
        return self.only_device or wanted

    def runtime(self) -> "type[Runtime]":
        """Import the adapter and return its class; UserError if its library does not load."""
        module, _, name = self.adapter.partition(":")
        try:
            return getattr(import_module(module), name)
        except ImportError as error:
            raise UserError(
                f"the engine {self.name} does not load ({error})", "see `python cli.py doctor`"
            ) from error


_TABLE = (
    EngineSpec("torch", "runtimes.torch_runtime:TorchRuntime", {}, colour="#6b7280"),
    EngineSpec("torch-compile", "runtimes.torch_compile_runtime:TorchCompileRuntime", {}, colour="#c2410c"),
    EngineSpec(
        "ort",
        "runtimes.ort_runtime:OrtRuntime",
        {Precision.fp32: MODEL, Precision.fp16: MODEL_FP16, Precision.int8: MODEL_INT8_CPU},
        colour="#2563eb",
        by_default=True,
    ),
    EngineSpec(
        "openvino",
        "runtimes.openvino_runtime:OpenVinoRuntime",
        {Precision.fp32: MODEL, Precision.int8: MODEL_INT8_OPENVINO},
        colour="#0d9488",
        by_default=True,
    ),
    EngineSpec(
        "trt",
        "runtimes.trt_runtime:TrtRuntime",
        GPU_GRAPHS,
        colour="#65a30d",
        opens_plans=True,
        only_device=Device.cuda,
    ),
    EngineSpec(
        "ort-trt",
        "runtimes.ort_tensorrt_runtime:OrtTrtRuntime",
        {Precision.fp32: MODEL, Precision.fp16: MODEL_FP16, Precision.int8: MODEL_INT8_GPU},
        colour="#be185d",
        only_device=Device.cuda,
    ),
    EngineSpec(
        "ort-rtx",
        "runtimes.ort_tensorrt_runtime:OrtRtxRuntime",
        {Precision.fp32: MODEL, Precision.fp16: MODEL_FP16, Precision.int8: MODEL_INT8_RTX},
        colour="#7c3aed",
        only_device=Device.cuda,
    ),
    # This engine shows the numerics of the graphs for TensorRT on machines without a GPU.
    EngineSpec(
        "reference",
        "runtimes.ort_runtime:ReferenceRuntime",
        GPU_GRAPHS,
        colour="#9ca3af",
        is_timed=False,
    ),
    # The same where TensorRT for RTX is given another graph.
    EngineSpec(
        "reference-rtx",
        "runtimes.ort_runtime:RtxReferenceRuntime",
        RTX_QUANTIZED,
        colour="#d1d5db",
        is_timed=False,
    ),
)
ENGINES: Mapping[str, EngineSpec] = {spec.name: spec for spec in _TABLE}
# The engines whose latency means anything.
TIMED = tuple(spec.name for spec in _TABLE if spec.is_timed)
# In float32 this engine is what all others are compared with.
ORIGINAL = ENGINES["torch"]


def engine_named(name: str) -> EngineSpec:
    """Return the row of an engine.

    Raises:
        UserError: no engine has this name; the error lists the names.
    """
    if name not in ENGINES:
        raise UserError(f"unknown --engine '{name}'", f"use {' or '.join(ENGINES)}")
    return ENGINES[name]
