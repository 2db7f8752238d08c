"""A double of ONNX Runtime with providers for a GPU, which computes on the CPU.

The double falls back to the CPU as ONNX Runtime 1.31 was seen to do on a machine without CUDA, and as its
documentation says of machines with CUDA.

- A library that is `missing` is reported on the file descriptor 2. The CUDA provider is then left out, and
  the TensorRT provider raises. The Python class catches what is raised, and makes the session again on the
  CPU, unless it was given `enable_fallback=0`.
- Nodes that a provider `leaves` go to the CPU, unless `session.disable_cpu_ep_fallback` is set.
- Which provider a node went to is told only where `session.record_ep_graph_assignment_info` is set.
- Providers that compile (TensorRT and RTX) cannot write an optimized graph, read bool options as "True" and
  "False", and take no batch outside their profile.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

CUDA, TENSORRT, RTX = "CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
CPU = "CPUExecutionProvider"
PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_PREFIX = {TENSORRT: "trt", RTX: "nv"}
_RealSession, _RealOptions = onnxruntime.InferenceSession, onnxruntime.SessionOptions


def failure(words: str) -> Exception:
    """ONNX Runtime's exception for the status FAIL."""
    return Fail(f"[ONNXRuntimeError] : 1 : FAIL : {words}")


class Options(_RealOptions):
    """Session options that remember which devices were added."""

    devices: tuple[str, dict[str, str]] | None = None

    def add_provider_for_devices(self, devices: Sequence[Any], settings: dict[str, str]) -> None:
        (device,) = devices
        self.devices = device.ep_name, settings


class OrtDouble:
    """What is installed, and what was asked of it.

    Args:
        available: the providers that are built in.
        plugin: whether the package of the RTX provider is installed.
        devices: how many GPUs the RTX provider finds.
        missing: the library that a provider does not find.
        leaves: how many nodes a provider leaves to the CPU.
        forgets_configuration: whether nodes go to the CPU although the configuration forbids that.
    """

    def __init__(
        self,
        available: Sequence[str] = (TENSORRT, CUDA, CPU),
        plugin: bool = True,
        devices: int = 2,
        missing: str = "",
        leaves: int = 0,
        forgets_configuration: bool = False,
    ) -> None:
        self.available, self.plugin, self.devices = list(available), plugin, devices
        self.missing, self.leaves, self.forgets_configuration = missing, leaves, forgets_configuration
        self.registered: list[tuple[str, str]] = []
        self.sessions: list[SessionDouble] = []
        self.tf32: list[str | None] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "OrtDouble":
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: self.available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", self.session)
        monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
        monkeypatch.setattr(onnxruntime, "get_ep_devices", self.ep_devices)
        monkeypatch.setattr(onnxruntime, "register_execution_provider_library", self.register)
        monkeypatch.setitem(sys.modules, PLUGIN, self._plugin() if self.plugin else None)
        return self

    def _plugin(self) -> ModuleType:
        module = ModuleType(PLUGIN)
        module.__spec__ = ModuleSpec(PLUGIN, None)
        vars(module).update(get_library_path=lambda: "/plugin.so", __version__="0.5")
        return module

    def register(self, name: str, library: str) -> None:
        if self.missing:
            raise failure(f"Failed to load library {library} with error: {self.missing}")
        if self.registered:
            raise failure("the library is registered already")
        self.registered.append((name, library))

    def ep_devices(self) -> list[SimpleNamespace]:
        of_rtx = [SimpleNamespace(ep_name=name) for name, _ in self.registered] * self.devices
        return [SimpleNamespace(ep_name=CPU), *of_rtx]

    def session(
        self,
        graph: str | bytes,
        options: Options | None = None,
        providers: Sequence[str | tuple[str, dict[str, str]]] = (),
        enable_fallback: int = 1,
    ) -> "SessionDouble":
        options = options or Options()
        first = next(iter(providers), options.devices)
        name, settings = (first, {}) if isinstance(first, str) else (first or (CPU, {}))
        self.tf32.append(os.environ.get("NVIDIA_TF32_OVERRIDE"))
        try:
            opened = SessionDouble(self, graph, options, name, settings, bool(enable_fallback))
        except RuntimeError:
            if not enable_fallback:
                raise
            sys.stdout.write("EP Error, falling back\n")
            opened = SessionDouble(self, graph, Options(), CPU, {}, enable_fallback=False)
        self.sessions.append(opened)
        return opened


class SessionDouble:
    """In place of `onnxruntime.InferenceSession`; `provider` is what computes."""

    fails_from_the_start = False

    def __init__(
        self,
        ort: OrtDouble,
        graph: str | bytes,
        options: Options,
        provider: str,
        settings: dict[str, str],
        enable_fallback: bool,
    ) -> None:
        self.ort, self.options, self.settings = ort, options, settings
        self.enable_fallback, self.fails = enable_fallback, self.fails_from_the_start
        self.provider = provider if not ort.missing or provider == CPU else self._without_library(provider)
        model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(graph)
        self.left = len(model.graph.node) if self.provider != provider else ort.leaves
        self.nodes = len(model.graph.node) - self.left
        forbidden = provider != CPU and self._configured("disable_cpu_ep_fallback")
        if self.left and forbidden and not ort.forgets_configuration:
            raise failure("This session contains graph nodes that are assigned to the default CPU EP")
        if self.provider in _PREFIX:
            self._check_compiling()
        self._real = _RealSession(graph, self._real_options(), providers=[CPU])

    def _without_library(self, provider: str) -> str:
        os.write(2, f"[E] Failed to load library x.so with error: {self.ort.missing}\n".encode())
        if provider == TENSORRT:
            raise RuntimeError("Please install TensorRT libraries")
        return CPU

    def _configured(self, entry: str) -> bool:
        try:
            return self.options.get_session_config_entry(f"session.{entry}") == "1"
        except RuntimeError:
            return False

    def _check_compiling(self) -> None:
        if self.options.optimized_model_filepath:
            raise failure("Unable to serialize model as it contains compiled nodes")
        flags = {value for name, value in self.settings.items() if name.endswith("_enable")}
        if self.provider == TENSORRT and not flags <= {"True", "False"}:
            raise failure("the value of a bool should be 'True' or 'False'")

    def _real_options(self) -> onnxruntime.SessionOptions:
        options = _RealOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        if self.options.optimized_model_filepath:
            options.optimized_model_filepath = self.options.optimized_model_filepath
        return options

    def get_providers(self) -> list[str]:
        return [self.provider] if self.provider == CPU else [self.provider, CPU]

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        if not self._configured("record_ep_graph_assignment_info"):
            raise failure("the session does not record the assignment of nodes")
        parts = ((self.provider, self.nodes), (CPU, self.left))
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [object()] * count)
            for name, count in parts
            if count
        ]

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> Any:
        if self.fails:
            if not self.enable_fallback:
                raise failure("TensorRT EP execution context enqueue failed")
            self.provider = CPU
        prefix = _PREFIX.get(self.provider)
        if prefix and f"{prefix}_profile_max_shapes" in self.settings:
            least, most = (
                int(self.settings[f"{prefix}_profile_{end}_shapes"].split(":")[1].split("x")[0])
                for end in ("min", "max")
            )
            if not all(least <= len(batch) <= most for batch in inputs.values()):
                raise failure(f"a batch outside the profile of {least} to {most}")
        return self._real.run(names, inputs)
