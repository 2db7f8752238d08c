"""TensorRT and TensorRT for RTX engines on an NVIDIA GPU."""

from collections import Counter
from typing import Any

import numpy as np

from errors import UserError
from graphs.card import Batch, GraphCard
from machine.gpu import gpus
from runtimes.runtime import LayerTime, Runtime, parts_of
from runtimes.tensorrt.cuda import Cuda, TorchCuda
from runtimes.tensorrt.engine_card import FLAVOURS, EngineCard, card_of_engine
from runtimes.tensorrt.fit import fitting_gpu
from runtimes.tensorrt.package import BUILDERS, Builder
from runtimes.tensorrt.session import EngineSession
from vocabulary import Device, Precision


class TrtRuntime(Runtime):
    """Runs a plan file on the first GPU of this machine that the plan was built for."""

    name = "trt"
    title = "TensorRT"
    supports = frozenset((Device.cuda, precision) for precision in Precision)
    refusal = ("TensorRT runs on NVIDIA GPUs", "use --engine ort or --engine openvino on a CPU")
    flavours = FLAVOURS
    integer_kernels = False
    #: What holds the memory of the GPU.
    cuda: type[Cuda] = TorchCuda

    def _open(self) -> GraphCard:
        sidecar = card_of_engine(self.path)
        self._require_made_for_this(sidecar.graph)
        builder = self._builder_of(sidecar)
        gpu = fitting_gpu(sidecar, gpus())
        self._sidecar, self._gpu = sidecar, gpu
        self._version = f"{builder.title} {sidecar.version}"
        cuda = self.cuda(gpu.index)  # type: ignore[call-arg]
        self._session = EngineSession(
            *(builder.load(), self._version, self.path, cuda, gpu.compute_capability, self.cuda_graphs)
        )
        return sidecar.graph

    def _infer(self, images: Batch) -> Batch:
        return np.concatenate([self._session.run(part) for part in self._parts(images)])

    def device_ms(self, images: Batch) -> float:
        """Return the time of the GPU; a batch that is cut into parts takes the sum of the parts' times."""
        self._check_images(images)
        return sum(self._session.device_ms(part) for part in self._parts(images))

    def _layer_times(self, images: Batch, calls: int) -> list[LayerTime]:
        # A layer of a batch that is cut takes the sum of its times over the parts.
        times: Counter[str] = Counter()
        for part in self._parts(images):
            times.update(self._session.layer_times(part, calls))
        return [LayerTime(name, ms) for name, ms in times.items()]

    def _parts(self, images: Batch) -> list[Batch]:
        return parts_of(images, self._session.largest)

    def _close(self) -> None:
        self._session.close()

    def describe(self) -> dict[str, Any]:
        return {
            "version": self._version,
            "device": self._gpu.name,
            "convolutions": self._sidecar.convolutions,
            **self._session.describe(),
        }

    def _builder_of(self, sidecar: EngineCard) -> Builder:
        """Return the package that built the plan and can run it here.

        Raises:
            UserError: there is no GPU, or the package has another version or is not installed.
        """
        if not gpus():
            raise UserError(
                f"the engine {self.path} is built, but this machine has no NVIDIA driver or GPU to run it",
                "take the engine to a machine with a GPU, or use --engine ort or --engine openvino here",
            )
        builder = BUILDERS[sidecar.builder]
        if builder.version != sidecar.version:
            raise UserError(
                f"{self.path.name} was built by {builder.title} {sidecar.version}, and "
                f"{builder.version or 'none'} is installed: plans run only in the version that built them",
                "build the engine again here",
            )
        return builder
