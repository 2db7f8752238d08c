"""TensorRT and TensorRT for RTX engines on an NVIDIA GPU."""

from typing import Any

import numpy as np

from errors import UserError
from graphs.card import PRECISIONS, Batch, GraphCard
from machine.gpu import gpus
from runtimes.runtime import Runtime
from runtimes.tensorrt.cuda import Cuda, TorchCuda
from runtimes.tensorrt.engine_card import EngineCard, card_of_engine
from runtimes.tensorrt.fit import fitting_gpu
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.session import EngineSession


class TrtRuntime(Runtime):
    """Runs a plan file on the first GPU of this machine that the plan was built for."""

    name = "trt"
    supports = frozenset(("cuda", precision) for precision in PRECISIONS)
    refusal = ("TensorRT runs on NVIDIA GPUs", "use --engine ort or --engine openvino on a CPU")
    #: What holds the GPU's memory.
    cuda: type[Cuda] = TorchCuda

    def _open(self) -> GraphCard:
        sidecar = card_of_engine(self.path)
        self._require_precision(sidecar)
        devices = gpus()
        if not devices:
            raise UserError(
                f"the engine {self.path} is built, but this machine has no NVIDIA driver or GPU to run it",
                "take it to one that has, or use --engine ort or --engine openvino here",
            )
        self._require_version(sidecar)
        gpu = fitting_gpu(sidecar, devices)
        builder = BUILDERS[sidecar.builder]
        self._sidecar, self._gpu = sidecar, gpu
        self._version = f"{builder.title} {sidecar.version}"
        cuda = self.cuda(gpu.index)  # type: ignore[call-arg]
        self._session = EngineSession(builder.load(), self._version, self.path, cuda, gpu.compute_capability)
        return sidecar.graph

    def _infer(self, images: Batch) -> Batch:
        if len(images) > self._session.largest:
            parts = np.array_split(images, -(-len(images) // self._session.largest))
            return np.concatenate([self._infer(np.ascontiguousarray(part)) for part in parts])
        return self._session.run(images)

    def _close(self) -> None:
        self._session.close()

    def describe(self) -> dict[str, Any]:
        return {
            "version": self._version,
            "device": self._gpu.name,
            "convolutions": self._sidecar.convolutions,
            **self._session.describe(),
        }

    def _require_precision(self, sidecar: EngineCard) -> None:
        if sidecar.precision != self.precision:
            raise UserError(
                f"{self.path.name} is an {sidecar.precision} engine, and trt was asked for {self.precision}",
                "open the engine of that precision",
            )

    def _require_version(self, sidecar: EngineCard) -> None:
        builder = BUILDERS[sidecar.builder]
        if builder.version != sidecar.version:
            raise UserError(
                f"{self.path.name} was built by {builder.title} {sidecar.version}, and "
                f"{builder.version or 'none'} is installed: plans are not portable",
                "build it again here",
            )
