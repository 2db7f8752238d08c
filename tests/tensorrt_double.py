"""A double of TensorRT's Python API and of a GPU, strict about order, lifetime and return values.

Logit k of an image is k plus the sum of the image's values. The double is strict about the following.

- Work on a stream runs when the stream is synchronized, not when it is enqueued. So memory that is freed or
  overwritten too early gives wrong logits or `Violation`.
- A method that TensorRT would answer with False or None does so where the test says (`refuse`), and where the
  caller's use is wrong: a shape outside the profile, a profile that does not exist.
- Running without an address or a shape, or on another GPU than the current one, is a `Violation`.
- The GPU has a clock, and what a measurement should leave out takes far longer than what it should count: a
  copy, the first launch of a shape, a launch with a profiler, a gap in which the GPU waits for the host.
- A context with a profiler reports `LAYERS` after each launch, but not from inside a graph. A profiler that
  is gone while its context runs is a `Violation`.

Longer than 300 lines because the parts of the double check one another.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any, ClassVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from graphs.card import INPUT, OUTPUT

CHANNELS, SIZE, CLASSES = 3, 32, 4
PROFILES = ((1, 1, 1), (1, 32, 128))
# The layers of the double's engines with the milliseconds that an image takes in each.
LAYERS = {"stem": 0.001, "add": 0.002, "head": 0.001}
COPY_MS, COMPILE_MS, PROFILE_MS, GAP_MS = 10.0, 1000.0, 100.0, 5.0


def expected_ms(count: int) -> float:
    """How long the double works on a batch."""
    return count * sum(LAYERS.values())


Work = Callable[[], None]


class Violation(AssertionError):
    """TensorRT or CUDA was used in a way that is undefined on a real GPU."""


def expected_logits(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the double computes of images [N, C, H, W]."""
    sums = images.reshape(len(images), -1).sum(1, dtype=np.float32)
    return (sums[:, None] + np.arange(CLASSES)).astype(np.float32)


class CudaDouble:
    """In place of `runtimes.tensorrt.cuda.TorchCuda`."""

    instances: ClassVar[list[Any]] = []

    def __init__(self, index: int) -> None:
        self.index = index
        self.stream = 1000 + index
        self.is_current = False
        self.memory: dict[int, Memory] = {}
        self.clock = 0.0
        self._pending_launches = 0
        self._queue: list[Work] = []
        self._recording: list[Work] | None = None
        CudaDouble.instances.append(self)

    @property
    def name(self) -> str:
        return f"NVIDIA double {self.index}"

    @contextmanager
    def current(self) -> Iterator[None]:
        before, self.is_current = self.is_current, True
        try:
            yield
        finally:
            self.is_current = before

    def device_memory(self, values: int) -> "Memory":
        memory = Memory(values, address=4096 * (len(self.memory) + 1))
        self.memory[memory.address] = memory
        return memory

    def host_memory(self, values: int) -> "Memory":
        return Memory(values, address=0)

    def to_device(self, target: "Memory", source: "Memory", count: int) -> None:
        def copy() -> None:
            target.array[:count] = source.array[:count]
            self.clock += COPY_MS

        self.enqueue(copy)

    to_host = to_device

    def launch(self, work: Work) -> None:
        """Enqueue what takes so long that the host keeps ahead of the GPU meanwhile."""
        self._pending_launches += self._recording is None
        self.enqueue(work)

    def enqueue(self, work: Work) -> None:
        if self._recording is None:
            self._queue.append(work)
        else:
            self._recording.append(work)

    def milliseconds(self, work: Work) -> float:
        if not self.is_current:
            raise Violation("an event was recorded on whichever GPU is current")
        times: list[float] = []
        has_work = self._pending_launches > 0
        self.enqueue(lambda: times.append(self.clock))
        work()
        if not has_work:
            self.enqueue(self._wait_for_the_host)
        self.enqueue(lambda: times.append(self.clock))
        self.synchronize()
        return times[1] - times[0]

    def _wait_for_the_host(self) -> None:
        self.clock += GAP_MS

    def capture(self, work: Work) -> Work:
        if self._queue:
            raise Violation("captured while other work of the stream was pending")
        self._recording = recorded = []
        try:
            work()
        finally:
            self._recording = None

        def replay() -> None:
            for kernel in recorded:
                self.launch(kernel)

        return replay

    def synchronize(self) -> None:
        if self._recording is not None:
            raise Violation("synchronized while a graph was captured")
        queue, self._queue, self._pending_launches = self._queue, [], 0
        for work in queue:
            work()


class Memory:
    """An array at a made-up address."""

    def __init__(self, values: int, address: int) -> None:
        self.array = np.full(values, np.nan, np.float32)
        self.address = address


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    """TensorRT's base class of loggers."""

    Severity = Severity

    def __init__(self) -> None:
        self.initialised = True


class IProfiler:
    """TensorRT's base class of profilers."""

    def __init__(self) -> None:
        self.initialised = True


class EngineValidity(Enum):
    VALID, SUBOPTIMAL, INVALID = range(3)


class TensorRtDouble:
    """In place of the module `tensorrt` or `tensorrt_rtx`.

    Args:
        rtx: whether engines have `create_runtime_config`, as those of TensorRT for RTX.
        refuse: names of methods that answer False or None.
        diagnostics: bits of `get_engine_validity`; None for a runtime that does not have the method.
        devices: the GPUs' doubles; filled by the session that is opened.
    """

    def __init__(
        self,
        rtx: bool = True,
        refuse: tuple[str, ...] = (),
        diagnostics: int | None = 0,
        profiles: tuple[tuple[int, int, int], ...] = PROFILES,
    ) -> None:
        self.rtx, self.refuse, self.diagnostics, self.profiles = rtx, refuse, diagnostics, profiles
        self.calls: list[str] = []
        self.contexts: list[Context] = []
        self.configs: list[SimpleNamespace] = []
        self.ILogger, self.IProfiler = ILogger, IProfiler
        self.DynamicShapesKernelSpecializationStrategy = Enum("Strategy", "LAZY EAGER NONE")
        self.CudaGraphStrategy = Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")

    @property
    def Logger(self) -> Any:  # noqa: N802 - TensorRT's name
        raise Violation("TensorRT's own logger prints to standard output")

    def answer(self, name: str, good: Any) -> Any:
        """Record a call, and refuse it where the test says so."""
        self.calls.append(name)
        return good if name not in self.refuse else (False if isinstance(good, bool) else None)

    def Runtime(self, logger: Any) -> "Runtime":  # noqa: N802 - TensorRT's name
        if not getattr(logger, "initialised", False):
            raise Violation("a logger whose base class was not initialised")
        return Runtime(self, logger)


class Runtime:
    engine_header_size = 64

    def __init__(self, trt: TensorRtDouble, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        if trt.diagnostics is not None:
            self.get_engine_validity = self._validity

    def _validity(self, header: bytes) -> tuple[EngineValidity, int]:
        if len(header) > self.engine_header_size:
            raise Violation("the validity of a header was asked with more than the header")
        valid = EngineValidity.VALID if not self.trt.diagnostics else EngineValidity.INVALID
        return valid, self.trt.diagnostics or 0

    def deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        if "deserialize_cuda_engine" in self.trt.refuse:
            self.logger.log(Severity.ERROR, "magic tag does not match")
        self.logger.log(Severity.WARNING, "a warning")
        return self.trt.answer("deserialize_cuda_engine", Engine(self.trt, self))


class Engine:
    def __init__(self, trt: TensorRtDouble, runtime: Runtime) -> None:
        self.trt, self.runtime = trt, runtime
        self.num_optimization_profiles = len(trt.profiles)
        if trt.rtx:
            self.create_runtime_config = self._runtime_config

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {INPUT: (-1, CHANNELS, SIZE, SIZE), OUTPUT: (-1, CLASSES)}[name]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(batch, CHANNELS, SIZE, SIZE) for batch in self.trt.profiles[index]]

    def _runtime_config(self) -> Any:
        config = SimpleNamespace(
            cuda_graph_strategy=self.trt.CudaGraphStrategy.DISABLED,
            dynamic_shapes_kernel_specialization_strategy=self.trt.DynamicShapesKernelSpecializationStrategy.LAZY,
            cache=None,
            create_runtime_cache=lambda: RuntimeCacheDouble(self.trt),
        )

        def set_runtime_cache(cache: Any) -> bool:
            config.cache = cache
            return self.trt.answer("set_runtime_cache", True)

        config.set_runtime_cache = set_runtime_cache
        self.trt.configs.append(config)
        return self.trt.answer("create_runtime_config", config)

    def create_execution_context(self, config: Any = None) -> "Context | None":
        if self.trt.rtx and config is None:
            raise Violation("an RTX context without a runtime configuration compiles in the background")
        context = Context(self.trt, self, config)
        self.trt.contexts.append(context)
        return self.trt.answer("create_execution_context", context)


class RuntimeCacheDouble:
    """Kernels by name; a blob of another machine is refused."""

    def __init__(self, trt: TensorRtDouble) -> None:
        self.trt = trt
        self.kernels: set[bytes] = set()

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"cache:"):
            return False
        self.kernels = set(blob.removeprefix(b"cache:").split())
        return True

    def serialize(self) -> bytes:
        return b"cache:" + b" ".join(sorted(self.kernels))


class Context:
    def __init__(self, trt: TensorRtDouble, engine: Engine, config: Any) -> None:
        self.trt, self.engine, self.config = trt, engine, config
        self.profile: int | None = None if len(trt.profiles) > 1 else 0
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.launches = 0
        self._profiler: Callable[[], Any] | None = None
        self._compiled: set[tuple[int, ...]] = set()

    @property
    def profiler(self) -> Any:
        return self._profiler and self._profiler()

    @profiler.setter
    def profiler(self, profiler: Any) -> None:
        if not getattr(profiler, "initialised", False):
            raise Violation("a profiler whose base class was not initialised")
        self._profiler = ref(profiler)

    def _report(self, count: int, extra: float) -> None:
        """Report the layers of a launch, the first of them with what compiling took."""
        if self.profiler is None:
            raise Violation("a context ran with a profiler that is gone")
        whole = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self.config is not None and self.config.cuda_graph_strategy == whole:
            return
        if "report_layer_time" in self.trt.refuse:
            return
        for name, ms in LAYERS.items():
            self.profiler.report_layer_time(name, count * ms + (extra - PROFILE_MS))

    @property
    def _cuda(self) -> CudaDouble:
        return CudaDouble.instances[-1]

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self._require_current("set_optimization_profile_async")
        if stream != self._cuda.stream:
            raise Violation("a profile was chosen on another stream")
        self.profile, self.shape = index, None
        return self.trt.answer("set_optimization_profile_async", index < len(self.trt.profiles))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.profile is None:
            raise Violation("a shape was set before a profile was chosen")
        smallest, _, largest = self.trt.profiles[self.profile]
        fits = name == INPUT and smallest <= shape[0] <= largest and shape[1:] == (CHANNELS, SIZE, SIZE)
        # A refused shape leaves the context without any.
        self.shape = shape if fits and "set_input_shape" not in self.trt.refuse else None
        return self.trt.answer("set_input_shape", fits)

    def infer_shapes(self) -> list[str]:
        self.trt.calls.append("infer_shapes")
        return [INPUT] if self.shape is None or "infer_shapes" in self.trt.refuse else []

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.trt.answer("set_tensor_address", address in self._cuda.memory)

    def execute_async_v3(self, stream: int) -> bool:
        self._require_current("execute_async_v3")
        if stream != self._cuda.stream:
            raise Violation("launched on another stream than the copies")
        if self.shape is None or set(self.addresses) != {INPUT, OUTPUT}:
            raise Violation("launched without a shape or an address")
        self.launches += 1
        cuda, shape, addresses = self._cuda, self.shape, dict(self.addresses)
        if self.config is not None:
            self.config.cache.kernels.add(f"batch{shape[0]}".encode())

        extra = 0.0 if shape in self._compiled else COMPILE_MS
        self._compiled.add(shape)
        if self._profiler is not None:
            extra += PROFILE_MS
            self._report(shape[0], extra)

        def run() -> None:
            cuda.clock += expected_ms(shape[0]) + extra
            source, target = (cuda.memory[addresses[name]].array for name in (INPUT, OUTPUT))
            images = source[: int(np.prod(shape))].reshape(shape)
            target[: shape[0] * CLASSES] = expected_logits(images).reshape(-1)

        cuda.launch(run)
        return self.trt.answer("execute_async_v3", True)

    def _require_current(self, what: str) -> None:
        if not self._cuda.is_current:
            raise Violation(f"{what} on whichever GPU is current")
