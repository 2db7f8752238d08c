"""One GPU as an engine needs it: a stream, memory that stays where it is, and captured graphs.

`Cuda` is what a session asks for, and `TorchCuda` is a GPU through PyTorch. The tests put a double in the
place of `TorchCuda` that notices memory which is freed or overwritten before the stream is through with it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from graphs.card import Batch


class DeviceMemory(Protocol):
    """Memory on the GPU for a fixed number of float32 values."""

    @property
    def address(self) -> int:
        """Where the memory begins."""
        ...


class HostMemory(Protocol):
    """Page-locked memory of the host for a fixed number of float32 values, as copies to a GPU need it."""

    @property
    def array(self) -> NDArray[np.float32]:
        """The memory itself."""
        ...


class Cuda(Protocol):
    """A GPU with a stream. Copies and launches run in the stream's order, after the call has returned."""

    index: int

    @property
    def name(self) -> str:
        """What the driver calls the GPU."""
        ...

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        ...

    def current(self) -> AbstractContextManager[Any]:
        """Make this GPU and its stream the ones that CUDA calls go to."""
        ...

    def device_memory(self, values: int) -> Any:
        """Allocate `DeviceMemory`."""
        ...

    def host_memory(self, values: int) -> Any:
        """Allocate `HostMemory`."""
        ...

    def to_device(self, target: Any, source: Any, count: int) -> None:
        """Copy the first `count` values from host memory to device memory."""
        ...

    def to_host(self, target: Any, source: Any, count: int) -> None:
        """Copy the first `count` values from device memory to host memory."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that `work` launches, and return what launches all of them at once."""
        ...

    def milliseconds(self, work: Callable[[], None]) -> float:
        """Wait for what `work` launches, and return how long the GPU took from its start to its end."""
        ...

    def synchronize(self) -> None:
        """Wait until the stream is through."""
        ...


class Buffer:
    """Device memory with host memory of the same size beside it."""

    def __init__(self, cuda: Cuda, values: int) -> None:
        self._cuda = cuda
        self._device: DeviceMemory = cuda.device_memory(values)
        self._host: HostMemory = cuda.host_memory(values)

    @property
    def address(self) -> int:
        """Where the device memory begins."""
        return self._device.address

    def upload(self, values: Batch) -> None:
        """Copy values into the device memory, from the start.

        The host memory may be written at once, because every call before has ended with a `download`.
        """
        self._host.array[: values.size] = values.reshape(-1)
        self._cuda.to_device(self._device, self._host, values.size)

    def download(self, shape: tuple[int, ...]) -> Batch:
        """Values [shape] from the start of the device memory, once the stream is through."""
        count = int(np.prod(shape))
        self._cuda.to_host(self._host, self._device, count)
        self._cuda.synchronize()
        return self._host.array[:count].reshape(shape).copy()


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
                "PyTorch, which holds the buffers on the GPU, sees no CUDA device",
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
        """The handle of the stream."""
        return self._stream.cuda_stream

    def current(self) -> AbstractContextManager[Any]:
        """Make this GPU and its stream the ones that CUDA calls go to."""
        return self._torch.cuda.stream(self._stream)

    def device_memory(self, values: int) -> "TorchMemory":
        """Allocate memory on the GPU."""
        return TorchMemory(self._torch.empty(values, dtype=self._torch.float32, device=self._device))

    def host_memory(self, values: int) -> "TorchMemory":
        """Allocate page-locked memory of the host."""
        return TorchMemory(self._torch.empty(values, dtype=self._torch.float32, pin_memory=True))

    def to_device(self, target: "TorchMemory", source: "TorchMemory", count: int) -> None:
        """Copy from the host to the GPU."""
        with self.current():
            target.tensor[:count].copy_(source.tensor[:count], non_blocking=True)

    to_host = to_device

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that `work` launches in a CUDA graph."""
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream):
            work()

        def replay() -> None:
            with self.current():
                graph.replay()

        return replay

    def milliseconds(self, work: Callable[[], None]) -> float:
        """Record events on the stream before and after what `work` launches, and return their distance."""
        first, last = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self.current():
            first.record(self._stream)
            work()
            last.record(self._stream)
        last.synchronize()
        return first.elapsed_time(last)

    def synchronize(self) -> None:
        """Wait until the stream is through."""
        self._stream.synchronize()


class TorchMemory:
    """A tensor of float32, on the GPU or in page-locked memory of the host."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def address(self) -> int:
        """Where the memory begins."""
        return self.tensor.data_ptr()

    @property
    def array(self) -> NDArray[np.float32]:
        """The memory of the host as an array."""
        return self.tensor.numpy()
