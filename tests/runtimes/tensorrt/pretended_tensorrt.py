"""A stand-in for the `tensorrt` package, as far as a build uses it: no library, no GPU.

It records what it is told. What it answers can be chosen: a setting that is not taken, a parser or a builder
that fails, and what the inspector says of the engine.
"""

import json
from collections.abc import Callable, Sequence
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from graphs.card import INPUT

Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)


class _Logger:
    Severity = Severity


class _Monitor:
    """Base class of a progress monitor."""


class PretendedConfig:
    """A builder configuration that takes every setting except those in `refused`."""

    def __init__(self, refused: Sequence[str] = ()) -> None:
        self.refused = refused
        self.flags = {"TF32"}
        self.pools: dict[str, int] = {}
        self.profiles: list[Any] = []
        self.capabilities: list[Any] = []
        self.timing_cache: bytes | None = None
        self.profiling_verbosity: str = "LAYER_NAMES_ONLY"
        self.progress_monitor: Any = None
        self._level = 3
        self._compatibility = "NONE"

    def set_flag(self, flag: str) -> None:
        if flag not in self.refused:
            self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def get_flag(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self._level = min(level, 5)

    @property
    def hardware_compatibility_level(self) -> str:
        return self._compatibility

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, level: str) -> None:
        if "hardware_compatibility_level" not in self.refused:
            self._compatibility = level

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size if "set_memory_pool_limit" not in self.refused else 0

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.pools[pool]

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def add_optimization_profile(self, profile: Any) -> int:
        if "add_optimization_profile" in self.refused:
            return -1
        self.profiles.append(profile.shapes[INPUT])
        return len(self.profiles) - 1

    @property
    def num_compute_capabilities(self) -> int:
        return len(self.capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, count: int) -> None:
        self.capabilities = [None] * count

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        if "set_compute_capability" in self.refused:
            return False
        self.capabilities[index] = capability
        return True

    def get_compute_capability(self, index: int) -> Any:
        return self.capabilities[index]

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.timing_cache = cache
        return "set_timing_cache" not in self.refused

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: (self.timing_cache or b"") + b" and more")


class _Profile:
    def __init__(self, refused: Sequence[str]) -> None:
        self.refused = refused
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = list(shapes) if "set_shape" not in self.refused else [(0, 0, 0, 0)] * 3

    def get_shape(self, name: str) -> list[tuple[int, ...]]:
        return self.shapes[name]


class PretendedTensorRT:
    """The package.

    Args:
        parser_errors: the parser fails with these.
        builder_error: the builder fails with this.
        inspector: what the inspector says of the engine; None where the plan cannot be loaded again.
        refused: names of settings that are not taken.
        while_building: called in the thread that builds, with the progress monitor.
    """

    ILogger = _Logger
    IProgressMonitor = _Monitor
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(
        TF32="TF32", VERSION_COMPATIBLE="VERSION_COMPATIBLE", REFIT="REFIT", STRIP_PLAN="STRIP_PLAN"
    )
    ProfilingVerbosity = SimpleNamespace(DETAILED="DETAILED")
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS")
    ComputeCapability = SimpleNamespace(SM86="SM86", SM89="SM89")
    LayerInformationFormat = SimpleNamespace(JSON="JSON")
    __version__ = "11.0"

    def __init__(
        self,
        parser_errors: Sequence[str] = (),
        builder_error: str = "",
        inspector: str | None = '{"Layers": []}',
        refused: Sequence[str] = (),
        while_building: Callable[[Any], None] = lambda monitor: None,
    ) -> None:
        self.parser_errors = parser_errors
        self.builder_error = builder_error
        self.inspector = inspector
        self.refused = refused
        self.while_building = while_building
        self.network_flags: list[int] = []
        self.config = PretendedConfig(refused)
        self.host_code_allowed = False

    def Builder(self, logger: Any) -> SimpleNamespace:  # noqa: N802
        self.logger = logger
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=lambda: self.config,
            create_optimization_profile=lambda: _Profile(self.refused),
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: object, logger: object) -> SimpleNamespace:  # noqa: N802
        errors = [SimpleNamespace(desc=lambda text=text: text) for text in self.parser_errors]
        return SimpleNamespace(
            parse=lambda content: not errors, num_errors=len(errors), get_error=errors.__getitem__
        )

    def Runtime(self, logger: object) -> Any:  # noqa: N802
        return _Runtime(self)

    def _network(self, flags: int) -> SimpleNamespace:
        self.network_flags.append(flags)
        return SimpleNamespace(get_input=lambda index: SimpleNamespace(name=INPUT, shape=(-1, 3, 32, 32)))

    def _build(self, network: object, config: object) -> bytes | None:
        self.while_building(self.config.progress_monitor)
        if not self.builder_error:
            return b"plan"
        self.logger.log(Severity.ERROR, self.builder_error)
        self.logger.log(Severity.WARNING, "and a warning")
        return None


class _Runtime:
    def __init__(self, package: PretendedTensorRT) -> None:
        self.package = package
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        self.package.host_code_allowed = self.engine_host_code_allowed
        if self.package.inspector is None:
            self.package.logger.log(Severity.ERROR, "wrong device")
            return None
        inspector = SimpleNamespace(get_engine_information=lambda format: self.package.inspector)
        return SimpleNamespace(create_engine_inspector=lambda: inspector)


def classic_convolution(node: str, weights: Sequence[int], kind: str = "Half", **more: Any) -> dict[str, Any]:
    """An entry of the inspector for a convolution, in the form of TensorRT 10, made by hand."""
    words = {"Float": "FP32", "Half": "FP16", "Int8": "Int8", "FP8": "FP8"}[kind]
    out, within, height, width = weights
    tensor = {"Location": "Device", "Format/Datatype": f"Channel major {words} format where channel % 8 == 0"}
    return {
        "Name": node,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": f"{node}.input", "Dimensions": [1, within, 32, 32], **tensor}],
        "Outputs": [{"Name": f"{node}.output", "Dimensions": [1, out, 32, 32], **tensor}],
        "ParameterType": "Convolution",
        "Kernel": [height, width],
        "Weights": {"Type": kind, "Count": out * within * height * width},
        "Bias": {"Type": kind, "Count": out},
        "TacticName": "sm80_xmma_fprop_implicit_gemm",
        "Metadata": f"[ONNX Layer: {node}]\x1e[ONNX Layer: {node}.relu]",
        **more,
    }


def inspector_document(*layers: Any) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["images", "logits"]})
