"""One GPU as an engine needs it: a stream, buffers that stay where they are, and captured graphs.

PyTorch holds the memory. `Cuda` is what a session asks for; `TorchCuda` is the GPU, and the tests put a
double in its place that notices a buffer which is freed before the stream is through with it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from errors import UserError
from graphs.card import Batch


class Buffer(Protocol):
    """Memory on the GPU for a fixed number of float32 values, and host memory of the same size beside it."""

    @property
    def address(self) -> int:
        """Where the device memory begins."""
        ...

    def upload(self, values: Batch) -> None:
        """Copy values into the device memory from the start, in the order of the stream."""
        ...

    def download(self, shape: tuple[int, ...]) -> Batch:
        """Values [shape] from the start of the device memory, when the stream is through."""
        ...


class Cuda(Protocol):
    """A GPU with a stream of its own."""

    index: int

    @property
    def name(self) -> str:
        """What the driver calls the GPU."""
        ...

    @property
    def stream(self) -> int:
        """The stream's handle."""
        ...

    def current(self) -> AbstractContextManager[Any]:
        """Make this GPU and its stream the ones that CUDA calls go to."""
        ...

    def buffer(self, values: int) -> Buffer:
        """Allocate a buffer for so many float32 values."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that `work` launches, and return what launches all of them at once."""
        ...

    def synchronize(self) -> None:
        """Wait until the stream is through."""
        ...


class TorchCuda:
    """A GPU through PyTorch.

    Args:
        index: of the GPU, as the driver counts.

    Raises:
        UserError: PyTorch sees no such GPU.
    """

    def __init__(self, index: int) -> None:
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "PyTorch, which holds the GPU buffers, sees no CUDA device",
                "install a CUDA build of torch",
            )
        if index >= torch.cuda.device_count():
            raise UserError(
                f"the driver reports a GPU {index}, and PyTorch sees {torch.cuda.device_count()} GPUs",
                "let CUDA_VISIBLE_DEVICES name every GPU, or unset it",
            )
        self.index = index
        self._torch = torch
        self._device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self._device)

    @property
    def name(self) -> str:
        """What the driver calls the GPU."""
        return self._torch.cuda.get_device_name(self._device)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return self._stream.cuda_stream

    def current(self) -> AbstractContextManager[Any]:
        """Make this GPU and its stream the ones that CUDA calls go to."""
        return self._torch.cuda.stream(self._stream)

    def buffer(self, values: int) -> "TorchBuffer":
        """Allocate a buffer for so many float32 values."""
        return TorchBuffer(self._torch, self._device, self._stream, values)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that `work` launches in a CUDA graph."""
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph.replay

    def synchronize(self) -> None:
        """Wait until the stream is through."""
        self._stream.synchronize()


class TorchBuffer:
    """A tensor on the GPU, and one in page-locked host memory, from which copies need no detour."""

    def __init__(self, torch: Any, device: Any, stream: Any, values: int) -> None:
        self._torch, self._stream = torch, stream
        self._device = torch.empty(values, dtype=torch.float32, device=device)
        self._host = torch.empty(values, dtype=torch.float32, pin_memory=True)

    @property
    def address(self) -> int:
        """Where the device memory begins."""
        return self._device.data_ptr()

    def upload(self, values: Batch) -> None:
        """Copy values into the device memory from the start, in the order of the stream."""
        # An earlier copy out of the same host memory may still be under way.
        self._stream.synchronize()
        self._host[: values.size].copy_(self._torch.from_numpy(values.reshape(-1)))
        with self._torch.cuda.stream(self._stream):
            self._device[: values.size].copy_(self._host[: values.size], non_blocking=True)

    def download(self, shape: tuple[int, ...]) -> Batch:
        """Values [shape] from the start of the device memory, when the stream is through."""
        count = int(np.prod(shape))
        with self._torch.cuda.stream(self._stream):
            self._host[:count].copy_(self._device[:count], non_blocking=True)
        self._stream.synchronize()
        return self._host[:count].numpy().reshape(shape).copy()
