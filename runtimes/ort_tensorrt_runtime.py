"""ONNX Runtime's TensorRT and TensorRT for RTX providers, which build an engine when a graph is opened.

Both providers parse the graph as a strongly typed network as long as no precision is switched on: then every
type is the one that stands in the graph, as in the engines that `build` makes. The graph reaches the provider
as it was written, because ONNX Runtime's own optimization would move the Q and DQ that TensorRT fuses.

Neither provider shows the plan that it has built. So the precision of the kernels is not proved here, and
`describe` claims none: it says that the provider has taken every node.

No engine is kept for the next time. The TensorRT provider would name the file after the graph and not after
its weights, so that a network that was trained again would run with the weights from before.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import onnxruntime

from data.dataset import IMAGE_SIZE
from graphs.card import INPUT, Batch, GraphCard
from graphs.evaluation import session_options
from runtimes.ort_providers import RTX, TENSORRT, Provider, nodes_by_provider, session_on_gpu
from runtimes.runtime import Runtime, parts_of
from runtimes.tensorrt.plan_options import DEFAULT_PROFILES, Profile
from vocabulary import Device, Flavour, Precision

# Both providers build an engine for one profile, which serves the batches of all default profiles of `build`.
PROFILE = Profile(1, 32, max(profile.largest for profile in DEFAULT_PROFILES))
_SUPPORTS = frozenset((Device.cuda, p) for p in (Precision.fp32, Precision.fp16, Precision.int8))


class OrtTrtRuntime(Runtime):
    """Runs an ONNX file through ONNX Runtime's TensorRT provider."""

    name = "ort-trt"
    title = "ONNX Runtime with TensorRT"
    supports = _SUPPORTS
    refusal = (
        "the provider is documented for float32, FP16 and INT8 on NVIDIA GPUs",
        "use --precision fp32, fp16 or int8, or --engine trt",
    )
    flavours = frozenset({Flavour.any, Flavour.gpu})
    integer_kernels = False
    provider: Provider = TENSORRT

    def _open(self) -> GraphCard:
        card = self._checked_card()
        options = session_options(self.threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._settings = self._settings_for(shapes_of(PROFILE, len(card.mean)))
        with ExitStack() as stack:
            if self.precision == Precision.fp32:
                # TensorRT would compute in TF32, and neither provider has an option that turns TF32 off.
                stack.enter_context(environment(NVIDIA_TF32_OVERRIDE="0"))
            self._session = session_on_gpu(str(self.path), options, self.provider, self._settings)
            # TensorRT for RTX compiles kernels in later calls too, so that the variable stays until `_close`.
            self._until_closed = stack.pop_all()
        return card

    def _settings_for(self, shapes: Mapping[str, str]) -> dict[str, str]:
        """Return the options of the provider.

        Args:
            shapes: the shapes of the profile under "min", "opt" and "max".
        """
        return {
            "device_id": "0",
            # No precision is switched on, so that the network is strongly typed.
            "trt_fp16_enable": "False",
            "trt_bf16_enable": "False",
            "trt_int8_enable": "False",
            **{f"trt_profile_{name}_shapes": shape for name, shape in shapes.items()},
            "trt_engine_cache_enable": "False",
            "trt_cuda_graph_enable": "False",
        }

    def _infer(self, images: Batch) -> Batch:
        parts = parts_of(images, PROFILE.largest)
        return np.concatenate([self._session.run(None, {INPUT: part})[0] for part in parts])

    def _close(self) -> None:
        del self._session
        self._until_closed.close()

    def describe(self) -> dict[str, Any]:
        return {
            "version": self.provider.version,
            "device": self._session.get_providers()[0],
            "threads": self.threads,
            "nodes": nodes_by_provider(self._session),
            "provider_options": self._settings,
            "tf32": "off through NVIDIA_TF32_OVERRIDE" if self.precision == Precision.fp32 else "unused",
            "cuda_graph": "none",
        }


class OrtRtxRuntime(OrtTrtRuntime):
    """Runs an ONNX file through the TensorRT for RTX provider, which is a package of its own."""

    name = "ort-rtx"
    title = "ONNX Runtime with TensorRT for RTX"
    flavours = frozenset({Flavour.any, Flavour.rtx})
    provider = RTX

    def _settings_for(self, shapes: Mapping[str, str]) -> dict[str, str]:
        return {
            "enable_cuda_graph": "0",
            **{f"nv_profile_{name}_shapes": shape for name, shape in shapes.items()},
        }


def shapes_of(profile: Profile, channels: int) -> dict[str, str]:
    """Write a profile as both providers read it, for example {"min": "images:1x3x32x32", …}."""
    names = zip(("min", "opt", "max"), profile, strict=True)
    return {name: f"{INPUT}:{batch}x{channels}x{IMAGE_SIZE}x{IMAGE_SIZE}" for name, batch in names}


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables of this process's environment while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
