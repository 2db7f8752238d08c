"""OpenVINO on the CPU: float32 and INT8."""

from collections import Counter
from typing import Any

import openvino

from errors import CheckFailed
from graphs.card import Batch, GraphCard
from runtimes.runtime import Runtime


class OpenVinoRuntime(Runtime):
    """Runs an ONNX file, compiled once for each batch size: fixed shapes give its fastest kernels."""

    name = "openvino"
    supports = frozenset({("cpu", "fp32"), ("cpu", "int8")})
    refusal = (
        "used here for x86 CPUs, where it computes in float32 and INT8",
        "use --device cpu with --precision fp32 or int8, or another --engine",
    )

    flavours = frozenset({"any", "cpu", "openvino"})

    def _open(self) -> GraphCard:
        card = self._checked_card()
        self._core = openvino.Core()
        self._model = self._core.read_model(self.path)
        self._requests: dict[int, openvino.InferRequest] = {}
        self._float_convolutions = card.float_convolutions
        self._convolutions = _convolution_precisions(self._request(1))
        return card

    def _left_float(self, convolutions: Counter[str]) -> str:
        """What runs in float though it is quantized in the file; empty if nothing does."""
        integer = convolutions["i8"] + convolutions["u8"]
        as_meant = integer > 0 and convolutions.total() - integer == self._float_convolutions
        return "" if as_meant else "convolutions"

    def _request(self, batch: int) -> openvino.InferRequest:
        if batch not in self._requests:
            model = self._model.clone()
            model.reshape([batch, *list(model.input().partial_shape)[1:]])
            # Left alone, it computes float32 graphs in bfloat16 on CPUs that have it.
            compiled = self._core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "f32",
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": self.threads,
                },
            )
            request = compiled.create_infer_request()
            convolutions = _convolution_precisions(request)
            if self.precision == "int8" and (kind := self._left_float(convolutions)):
                raise CheckFailed(
                    f"OpenVINO runs {self.path.name} with float {kind} ({dict(convolutions)}) at batch "
                    f"{batch}",
                    "calibrate again with this version of skipfold",
                )
            self._requests[batch] = request
        return self._requests[batch]

    def _infer(self, images: Batch) -> Batch:
        request = self._request(len(images))
        request.infer({0: images}, share_inputs=True, share_outputs=True)
        return request.get_output_tensor(0).data.copy()

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
    """How many convolutions of the compiled graph run in each precision."""
    operations = request.get_compiled_model().get_runtime_model().get_ops()
    return Counter(
        op.get_rt_info()["runtimePrecision"].astype(str)
        for op in operations
        if op.get_rt_info()["layerType"].astype(str) == "Convolution"
    )
