"""OpenVINO on the CPU, in float32 and INT8."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

import openvino

from graphs.card import Batch, GraphCard
from runtimes.runtime import LayerTime, Runtime
from vocabulary import Device, Flavour, Precision


class OpenVinoRuntime(Runtime):
    """Runs an ONNX file, which is compiled for each batch size, because fixed shapes give faster kernels."""

    name = "openvino"
    title = "OpenVINO"
    supports = frozenset({(Device.cpu, Precision.fp32), (Device.cpu, Precision.int8)})
    refusal = (
        "skipfold uses OpenVINO on x86 CPUs, where it computes in float32 and INT8",
        "use --device cpu with --precision fp32 or int8, or another --engine",
    )
    flavours = frozenset({Flavour.any, Flavour.cpu, Flavour.openvino})
    settings: ClassVar[Mapping[str, str]] = {
        # Without this hint OpenVINO computes float32 graphs in bfloat16 on CPUs that have bfloat16.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }

    def _open(self) -> GraphCard:
        card = self._checked_card()
        self._core = openvino.Core()
        self._model = self._core.read_model(self.path)
        self._requests: dict[int, openvino.InferRequest] = {}
        self._float_convolutions = card.float_convolutions
        self._convolutions = _convolution_precisions(self._request(card.batch or 1))
        return card

    def _left_float(self, convolutions: Counter[str]) -> str:
        """Return "convolutions" if more run in float than the card says, otherwise an empty string."""
        integer = convolutions["i8"] + convolutions["u8"]
        as_meant = integer > 0 and convolutions.total() - integer == self._float_convolutions
        return "" if as_meant else "convolutions"

    def _request(self, batch: int) -> openvino.InferRequest:
        if batch not in self._requests:
            request = self._compiled(batch).create_infer_request()
            if self.precision == Precision.int8:
                convolutions = _convolution_precisions(request)
                self._require_integer(self._left_float(convolutions), convolutions, f" at batch {batch}")
            self._requests[batch] = request
        return self._requests[batch]

    def _compiled(self, batch: int, **more: Any) -> openvino.CompiledModel:
        model = self._model.clone()
        model.reshape([batch, *list(model.input().partial_shape)[1:]])
        options = {**self.settings, "INFERENCE_NUM_THREADS": self.threads, **more}
        return self._core.compile_model(model, "CPU", options)

    def _infer(self, images: Batch) -> Batch:
        request = self._request(len(images))
        request.infer({0: images}, share_inputs=True, share_outputs=True)
        return request.get_output_tensor(0).data.copy()

    def _layer_times(self, images: Batch, calls: int) -> list[LayerTime]:
        request = self._compiled(len(images), PERF_COUNT=True).create_infer_request()
        totals: Counter[str] = Counter()
        # The first call is slower in some layers, because it packs weights, for example those of `logits`.
        request.infer({0: images})
        for _ in range(calls):
            request.infer({0: images})
            for layer in request.get_profiling_info():
                totals[f"{layer.node_name} ({layer.exec_type})"] += layer.real_time / timedelta(
                    milliseconds=1
                )
        return [LayerTime(name, ms / calls) for name, ms in totals.items() if ms]

    def _close(self) -> None:
        del self._requests, self._model, self._core

    def describe(self) -> dict[str, Any]:
        return {
            "version": openvino.get_version(),
            "device": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            "threads": self.threads,
            "convolutions": dict(self._convolutions),
        }


def _convolution_precisions(request: openvino.InferRequest) -> Counter[str]:
    """Count the convolutions of the compiled graph by the precision that they run in."""
    operations = request.get_compiled_model().get_runtime_model().get_ops()
    return Counter(
        op.get_rt_info()["runtimePrecision"].astype(str)
        for op in operations
        if op.get_rt_info()["layerType"].astype(str) == "Convolution"
    )
