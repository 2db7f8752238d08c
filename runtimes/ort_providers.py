"""Sessions of ONNX Runtime in which a GPU computes all of the graph.

ONNX Runtime uses the CPU without asking in three cases, and prints a line at most:

1. the library of the provider does not load, for example because cuDNN is not installed;
2. the provider loads, and leaves some nodes of the graph to the CPU;
3. a call fails, and the session is made again on the CPU.

Each case is an error here. `enable_fallback=0` turns off what happens in 1 and 3, and the configuration
`session.disable_cpu_ep_fallback` what happens in 1 and 2. What the session says of itself is compared all the
same: its first provider, and the provider of each node, which `session.record_ep_graph_assignment_info`
records.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from errors import UserError
from runtimes.native_output import native_output

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

_CONFIGURATION = ("session.disable_cpu_ep_fallback", "session.record_ep_graph_assignment_info")
# What ONNX Runtime logs of a library that does not load.
_REASON = re.compile(r"with error: (.*)")
# What stands before the words of an exception, for example "[ONNXRuntimeError] : 1 : FAIL : ".
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


@dataclass(frozen=True)
class Provider:
    """An execution provider for NVIDIA GPUs that is part of a build of ONNX Runtime.

    Attributes:
        name: what ONNX Runtime calls the provider.
        fix: what the provider needs to load.
    """

    name: str
    fix: str

    def require_present(self) -> None:
        """Raise a `UserError` where this ONNX Runtime does not have the provider."""
        import onnxruntime

        if self.name not in onnxruntime.get_available_providers():
            raise UserError(
                f"this ONNX Runtime has no {self.name}",
                "pip install onnxruntime-gpu (Linux and Windows, x86-64)",
            )

    @property
    def version(self) -> str:
        """The version of ONNX Runtime, and of the provider where that is a package of its own."""
        import onnxruntime

        return onnxruntime.__version__

    def arguments(self, options: "SessionOptions", settings: Mapping[str, str]) -> dict[str, Any]:
        """Return what `InferenceSession` is given so that the session uses the provider and no other."""
        return {"providers": [(self.name, dict(settings))]}


@dataclass(frozen=True)
class PluginProvider(Provider):
    """A provider that a package of its own adds to ONNX Runtime.

    Attributes:
        package: the package that is imported; its `get_library_path` says where the library lies.
        distribution: the name of the package for pip.
    """

    package: str
    distribution: str

    def require_present(self) -> None:
        """Raise a `UserError` where the package is not installed."""
        if find_spec(self.package) is None:
            raise UserError(
                f"ONNX Runtime has no {self.name}, which is a package of its own",
                f"pip install {self.distribution} (Linux and Windows, x86-64)",
            )

    @property
    def version(self) -> str:
        """The versions of ONNX Runtime and of the package."""
        return f"{super().version}, {self.distribution} {import_module(self.package).__version__}"

    def arguments(self, options: "SessionOptions", settings: Mapping[str, str]) -> dict[str, Any]:
        """Register the library, unless this process has done so, and choose the first GPU in `options`."""
        import onnxruntime

        if not self._devices():
            library = import_module(self.package).get_library_path()
            onnxruntime.register_execution_provider_library(self.name, library)
        if not (devices := self._devices()):
            raise RuntimeError("the provider finds no GPU that it supports")
        options.add_provider_for_devices(devices[:1], dict(settings))
        return {}

    def _devices(self) -> list[Any]:
        import onnxruntime

        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == self.name]


CUDA = Provider(
    "CUDAExecutionProvider",
    fix="use a machine with an NVIDIA GPU, CUDA 13 and cuDNN 9, or --device cpu",
)
TENSORRT = Provider(
    "TensorrtExecutionProvider",
    fix="use a machine with an NVIDIA GPU, CUDA 13, cuDNN 9 and TensorRT 10, or --engine trt",
)
RTX = PluginProvider(
    "NvTensorRTRTXExecutionProvider",
    fix="use a machine with an NVIDIA RTX GPU (Ampere or later) and a driver for CUDA 13, or --engine trt",
    package="onnxruntime_ep_nv_tensorrt_rtx",
    distribution="onnxruntime-ep-nv-tensorrt-rtx",
)


def session_on_gpu(
    graph: str | bytes,
    options: "SessionOptions",
    provider: Provider,
    settings: Mapping[str, str],
) -> "InferenceSession":
    """Open a graph in a session that runs all of it with the provider.

    Args:
        graph: the path of an ONNX file, or its content.
        options: get the configuration that makes a fallback to the CPU an error.
        settings: options of the provider.

    Raises:
        UserError: the provider is not here, does not load, or does not run all of the graph; with the reason.
    """
    import onnxruntime

    provider.require_present()
    for entry in _CONFIGURATION:
        options.add_session_config_entry(entry, "1")
    session, error = None, None
    with native_output() as log:
        try:
            arguments = provider.arguments(options, settings)
            session = onnxruntime.InferenceSession(graph, options, enable_fallback=0, **arguments)
        except Exception as caught:
            # ONNX Runtime has an exception for each status, and they share the module and nothing else.
            if not isinstance(caught, RuntimeError) and not type(caught).__module__.startswith("onnxruntime"):
                raise
            error = caught
    if session is None or session.get_providers()[0] != provider.name:
        raise _failure(provider, log.getvalue(), error) from error
    _require_all_nodes(session, provider)
    return session


def nodes_by_provider(session: "InferenceSession") -> dict[str, int]:
    """Count the nodes of a graph that each provider runs, in a session of `session_on_gpu`."""
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def _failure(provider: Provider, log: str, error: Exception | None) -> UserError:
    """Say why there is no session: the log has the reason of a library, and the exception every other one."""
    if unloaded := _REASON.search(log):
        return UserError(f"{provider.name} does not load ({unloaded[1].strip()})", provider.fix)
    if error is None:
        return UserError(f"{provider.name} does not load (ONNX Runtime gives no reason)", provider.fix)
    words = _PREFIX.sub("", next(iter(str(error).strip().splitlines()), type(error).__name__))
    if unloaded := _REASON.search(words):
        return UserError(f"{provider.name} does not load ({unloaded[1].strip()})", provider.fix)
    return UserError(f"{provider.name} does not run the graph ({words})", provider.fix)


def _require_all_nodes(session: "InferenceSession", provider: Provider) -> None:
    nodes = nodes_by_provider(session)
    elsewhere = {name: count for name, count in nodes.items() if name != provider.name}
    if elsewhere or not nodes:
        left = ", ".join(f"{count} to {name}" for name, count in elsewhere.items()) or "all of them"
        raise UserError(f"{provider.name} leaves nodes of the graph to others: {left}", "use --engine trt")
