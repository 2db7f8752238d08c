"""Engines of TensorRT and of TensorRT for RTX on an NVIDIA GPU."""

from typing import Any

import numpy as np

from errors import UserError
from graphs.card import INPUT, OUTPUT, Batch, GraphCard
from machine.gpu import gpus
from runtimes.runtime import Runtime
from runtimes.tensorrt.engine_card import FLAVOURS, EngineCard, card_of_engine
from runtimes.tensorrt.package import BUILDERS, Builder
from runtimes.tensorrt.targets import target_of
from vocabulary import Device, Precision


class TrtRuntime(Runtime):
    """Runs a plan file; PyTorch holds the buffers on the GPU."""

    name = "trt"
    title = "TensorRT"
    supports = frozenset((Device.cuda, precision) for precision in Precision)
    refusal = ("TensorRT runs on NVIDIA GPUs", "use --engine ort or --engine openvino on a CPU")
    flavours = FLAVOURS
    integer_kernels = False

    def _open(self) -> GraphCard:
        sidecar = card_of_engine(self.path)
        self._require_made_for_this(sidecar.graph)
        builder = self._builder_of(sidecar)
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "PyTorch, which holds the buffers on the GPU, sees no CUDA device",
                "install a CUDA build of torch",
            )
        trt = builder.load()
        self._torch = torch
        self._version = f"{builder.title} {sidecar.version}"
        self._convolutions = sidecar.convolutions
        self._largest = sidecar.batches[-1]
        self._stream = torch.cuda.Stream()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._loaded(builder)
        self._context = self._engine.create_execution_context()
        return sidecar.graph

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

    def _loaded(self, builder: Builder) -> Any:
        engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if engine is None:
            gpu = gpus()[0]
            target = target_of(gpu)
            raise UserError(
                f"{builder.title} cannot load {self.path.name} on {gpu.name} ({target})",
                f"build the engine with --target {target}, or on this machine",
            )
        return engine

    def _infer(self, images: Batch) -> Batch:
        if len(images) > self._largest:
            parts = np.array_split(images, -(-len(images) // self._largest))
            return np.concatenate([self._infer(np.ascontiguousarray(part)) for part in parts])
        torch = self._torch
        with torch.cuda.stream(self._stream):
            inputs = torch.from_numpy(images).to("cuda")
            self._context.set_input_shape(INPUT, images.shape)
            shape = tuple(self._context.get_tensor_shape(OUTPUT))
            logits = torch.empty(shape, dtype=torch.float32, device="cuda")
            self._context.set_tensor_address(INPUT, inputs.data_ptr())
            self._context.set_tensor_address(OUTPUT, logits.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError(f"{self._version} failed to run {self.path.name}")
            host = logits.cpu()
        self._stream.synchronize()
        return host.numpy()

    def _close(self) -> None:
        del self._context, self._engine, self._runtime, self._stream

    def describe(self) -> dict[str, Any]:
        return {
            "version": self._version,
            "device": self._torch.cuda.get_device_name(),
            "convolutions": self._convolutions,
        }
