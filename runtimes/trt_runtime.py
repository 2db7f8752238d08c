"""TensorRT and TensorRT for RTX engines on an NVIDIA GPU."""

from typing import Any

import numpy as np

from errors import UserError
from graphs.card import INPUT, OUTPUT, PRECISIONS, Batch, GraphCard
from machine.gpu import gpus
from runtimes.runtime import Runtime
from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.engine_card import card_of_engine
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.plan_options import profile_serving


class TrtRuntime(Runtime):
    """Runs a plan file; PyTorch holds the device buffers."""

    name = "trt"
    supports = frozenset(("cuda", precision) for precision in PRECISIONS)
    refusal = ("TensorRT runs on NVIDIA GPUs", "use --engine ort or --engine openvino on a CPU")

    def _open(self) -> GraphCard:
        sidecar = card_of_engine(self.path)
        if sidecar.precision != self.precision:
            raise UserError(
                f"{self.path.name} is an {sidecar.precision} engine, and trt was asked for {self.precision}",
                "open the engine of that precision",
            )
        devices = gpus()
        if not devices:
            raise UserError(
                f"the engine {self.path} is built, but this machine has no NVIDIA driver or GPU to run it",
                "take it to one that has, or use --engine ort or --engine openvino here",
            )
        builder = BUILDERS[sidecar.builder]
        if builder.version != sidecar.version:
            raise UserError(
                f"{self.path.name} was built by {builder.title} {sidecar.version}, and "
                f"{builder.version or 'none'} is installed: plans are not portable",
                "build it again here",
            )
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "PyTorch, which holds the GPU buffers, sees no CUDA device",
                "install a CUDA build of torch",
            )
        trt = builder.load()
        self._torch = torch
        self._version = f"{builder.title} {sidecar.version}"
        self._convolutions = sidecar.convolutions
        self._profiles = sidecar.batches
        self._profile = 0
        self._largest = max(profile.largest for profile in sidecar.batches)
        self._stream = torch.cuda.Stream()
        self._logger = collecting_logger(trt)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if self._engine is None:
            raise UserError(
                f"{builder.title} cannot load {self.path.name} on {devices[0].name} "
                f"(sm{devices[0].compute_capability})",
                f"build it with --target sm{devices[0].compute_capability}, or here",
            )
        self._context = self._engine.create_execution_context()
        return sidecar.graph

    def _infer(self, images: Batch) -> Batch:
        if len(images) > self._largest:
            parts = np.array_split(images, -(-len(images) // self._largest))
            return np.concatenate([self._infer(np.ascontiguousarray(part)) for part in parts])
        torch = self._torch
        with torch.cuda.stream(self._stream):
            self._choose_profile(len(images))
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

    def _choose_profile(self, batch: int) -> None:
        """Switch to the profile that is tuned best for a batch size."""
        profile = profile_serving(self._profiles, batch)
        if profile is None:
            served = " and ".join(f"{p.smallest} to {p.largest}" for p in self._profiles)
            raise UserError(
                f"{self.path.name} serves batches of {served}, not of {batch}",
                "build it with other --batches",
            )
        if profile != self._profile:
            if not self._context.set_optimization_profile_async(profile, self._stream.cuda_stream):
                raise RuntimeError(f"{self._version} does not take profile {profile} of {self.path.name}")
            self._profile = profile

    def _close(self) -> None:
        del self._context, self._engine, self._runtime, self._stream

    def describe(self) -> dict[str, Any]:
        return {
            "version": self._version,
            "device": self._torch.cuda.get_device_name(),
            "convolutions": self._convolutions,
        }
