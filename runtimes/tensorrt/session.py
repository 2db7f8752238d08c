"""A deserialized engine with everything it needs to run batches, again and again, on one GPU.

Buffers are allocated once, for the largest batch of all profiles, and keep their addresses: a captured graph
has them written into it. Every return value of TensorRT is looked at, because most of its methods return
False instead of raising, and an engine whose shape was not set computes with the shape before.

TensorRT for RTX captures graphs itself (`CudaGraphStrategy.WHOLE_GRAPH_CAPTURE`), and compiles kernels for
each shape before the first call returns (`EAGER`); by default it would compile while a slower kernel runs,
and a measurement would time both. With TensorRT the graph of each batch size is captured here.

A profile of the layers runs in an execution context of its own and without graphs, because a context with a
profiler waits after every call, and the kernels of a graph report to no profiler.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from errors import UserError
from graphs.card import INPUT, OUTPUT, Batch
from runtimes.tensorrt.collecting_logger import collecting_logger
from runtimes.tensorrt.cuda import Buffer, Cuda
from runtimes.tensorrt.layer_profile import collecting_profiler
from runtimes.tensorrt.plan_options import Profile, profile_serving
from runtimes.tensorrt.runtime_cache import RuntimeCache
from runtimes.tensorrt.validity import refuse_unfit_engine


@dataclass
class Lane:
    """One profile with an execution context of its own, so that no call has to change profiles.

    Attributes:
        captures: whether launches are captured here, in one graph for each batch size.
        batch: the batch whose shape is set; 0 before the first.
        graphs: captured launches by batch.
    """

    profile: Profile
    context: Any
    captures: bool
    batch: int = 0
    graphs: dict[int, Callable[[], None]] = field(default_factory=dict)


class EngineSession:
    """One engine on one GPU.

    Args:
        trt: the TensorRT module.
        title: the package's name and version, for messages.
        plan: the engine's file.
        cuda: the GPU to run on.
        capability: the GPU's compute capability, e.g. 89.
        captures: whether launches are captured in graphs.

    Raises:
        UserError: the engine does not load here, with TensorRT's reason, or there is no memory for it.
    """

    def __init__(
        self, trt: ModuleType, title: str, plan: Path, cuda: Cuda, capability: int, captures: bool = True
    ) -> None:
        self._trt, self._title, self._path, self._cuda, self._captures = trt, title, plan, cuda, captures
        self._logger = collecting_logger(trt)
        content = plan.read_bytes()
        with cuda.current():
            self._runtime = trt.Runtime(self._logger)
            refuse_unfit_engine(self._runtime, content, plan.name, cuda.name, capability)
            self._engine = self._runtime.deserialize_cuda_engine(content)
            self._require(self._engine, "load")
            self._is_rtx = hasattr(self._engine, "create_runtime_config")
            self._cache: RuntimeCache | None = None
            self._config = self._runtime_config(captures) if self._is_rtx else None
            self._allocate()
            # TensorRT for RTX captures by itself, as its configuration says.
            self._lanes = [
                self._lane(index, self._config, captures and not self._is_rtx)
                for index in range(self._engine.num_optimization_profiles)
            ]

    @property
    def largest(self) -> int:
        """The largest batch that one call can run."""
        return max(profile.largest for profile in self._profiles())

    def describe(self) -> dict[str, Any]:
        """What decides a measurement, as JSON values."""
        if self._cache is not None:
            settings = {
                "kernels": "specialized before the first call (EAGER)",
                "cuda_graph": "whole graph, captured by TensorRT" if self._captures else "none",
                "runtime_cache": self._cache.state,
            }
        else:
            settings = {"cuda_graph": "captured for each batch size" if self._captures else "none"}
        return {"gpu_index": self._cuda.index, **settings, "warnings": dict(self._logger.warnings)}

    def run(self, images: Batch) -> Batch:
        """Logits float32 [N, classes] of images [N, C, H, W], N at most `largest`.

        Raises:
            UserError: no profile serves the batch, or TensorRT fails; with its reason.
        """
        lane = self._lanes[self._index_for(len(images))]
        with self._cuda.current():
            self._prepare(lane, images)
            self._launch(lane)
            return self._output.download((len(images), self._classes))

    def device_ms(self, images: Batch) -> float:
        """Milliseconds that the GPU works on images [N, C, H, W], N at most `largest`, without the copies.

        The batch is launched twice, and the second launch is timed. The first launch may compile. The first
        launch also keeps the GPU busy while the host enqueues the second one, whose time would otherwise
        contain gaps in which the GPU waits for the host.

        Raises:
            UserError: as in `run`.
        """
        lane = self._lanes[self._index_for(len(images))]
        with self._cuda.current():
            self._prepare(lane, images)
            self._launch(lane)
            return self._cuda.milliseconds(lambda: self._launch(lane))

    def layer_times(self, images: Batch, calls: int) -> dict[str, float]:
        """Milliseconds of each layer in a call, as the mean of `calls` calls, N at most `largest`.

        Raises:
            UserError: as in `run`, or TensorRT reports no layers.
        """
        profiler = collecting_profiler(self._trt)
        with self._cuda.current():
            config = self._runtime_config(captures=False) if self._is_rtx else None
            lane = self._lane(self._index_for(len(images)), config, captures=False)
            self._prepare(lane, images)
            # The first call compiles, so that the profiler is attached after it.
            self._enqueue(lane)
            self._cuda.synchronize()
            lane.context.profiler = profiler
            for _ in range(calls):
                self._enqueue(lane)
                self._cuda.synchronize()
        # The context goes before the profiler, which it points to.
        del lane
        if not profiler.totals:
            raise self._failure("report the time of any layer of")
        return {name: total / calls for name, total in profiler.totals.items()}

    def close(self) -> None:
        """Wait for the GPU, keep the kernels that were compiled, and release everything in order."""
        self._cuda.synchronize()
        if self._cache is not None:
            self._cache.save()
        self._lanes.clear()
        del self._config, self._engine, self._runtime, self._input, self._output

    def _runtime_config(self, captures: bool) -> Any:
        """How contexts of TensorRT for RTX run; all of them share one cache of compiled kernels."""
        config = self._engine.create_runtime_config()
        self._require(config, "make a runtime configuration for")
        config.dynamic_shapes_kernel_specialization_strategy = (
            self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        strategy = self._trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if captures else strategy.DISABLED
        if self._cache is None:
            self._cache = RuntimeCache(self._path, config.create_runtime_cache())
            self._cache.load()
        self._require(config.set_runtime_cache(self._cache.kernels), "use the runtime cache of")
        return config

    def _profiles(self) -> list[Profile]:
        shapes = (
            self._engine.get_tensor_profile_shape(INPUT, index)
            for index in range(self._engine.num_optimization_profiles)
        )
        return [Profile(*(int(shape[0]) for shape in three)) for three in shapes]

    def _allocate(self) -> None:
        """Buffers for the largest batch, at addresses that stay."""
        _, channels, height, width = self._engine.get_tensor_shape(INPUT)
        self._classes = int(self._engine.get_tensor_shape(OUTPUT)[1])
        self._input = Buffer(self._cuda, self.largest * channels * height * width)
        self._output = Buffer(self._cuda, self.largest * self._classes)

    def _lane(self, index: int, config: Any, captures: bool) -> "Lane":
        """An execution context for a profile, with the buffers bound.

        Args:
            config: of `_runtime_config`; None for TensorRT, which has none.
            captures: as in `Lane`.
        """
        arguments = () if config is None else (config,)
        context = self._engine.create_execution_context(*arguments)
        self._require(context, "make an execution context for")
        chosen = context.set_optimization_profile_async(index, self._cuda.stream)
        self._require(chosen, f"choose profile {index} of")
        self._cuda.synchronize()
        for name, buffer in ((INPUT, self._input), (OUTPUT, self._output)):
            self._require(context.set_tensor_address(name, buffer.address), f"bind {name} of")
        return Lane(self._profiles()[index], context, captures)

    def _index_for(self, count: int) -> int:
        """The profile that serves a batch and is tuned for the nearest one."""
        profiles = [lane.profile for lane in self._lanes]
        index = profile_serving(profiles, count)
        if index is None:
            ranges = ", ".join(f"{profile.smallest} to {profile.largest}" for profile in profiles)
            raise UserError(
                f"{self._path.name} has no profile for a batch of {count}, only for {ranges}",
                "build it again with a profile for this batch",
            )
        return index

    def _prepare(self, lane: "Lane", images: Batch) -> None:
        """Set the shape, where the lane has another, copy the images, and capture a launch of it once."""
        if lane.batch != len(images):
            self._set_shape(lane, images.shape)
        self._input.upload(images)
        if lane.captures and lane.batch not in lane.graphs:
            self._capture(lane)

    def _set_shape(self, lane: "Lane", shape: tuple[int, ...]) -> None:
        lane.batch = 0
        self._require(lane.context.set_input_shape(INPUT, tuple(shape)), f"take a batch of {shape[0]} in")
        if missing := lane.context.infer_shapes():
            raise self._failure(f"run without a shape of {', '.join(missing)}")
        lane.batch = shape[0]

    def _capture(self, lane: "Lane") -> None:
        # The first call of a shape may allocate memory, which a capture must not contain.
        self._enqueue(lane)
        self._cuda.synchronize()
        lane.graphs[lane.batch] = self._cuda.capture(lambda: self._enqueue(lane))

    def _launch(self, lane: "Lane") -> None:
        if lane.captures:
            lane.graphs[lane.batch]()
        else:
            self._enqueue(lane)

    def _enqueue(self, lane: "Lane") -> None:
        self._require(lane.context.execute_async_v3(self._cuda.stream), "run")

    def _require(self, result: Any, what: str) -> None:
        """TensorRT returns False or None where something failed, and says why in its log."""
        if result is None or result is False:
            raise self._failure(what)

    def _failure(self, what: str) -> UserError:
        reason = "; ".join(self._logger.errors) or "TensorRT gives no reason"
        gpu = f"{self._cuda.name} (GPU {self._cuda.index})"
        return UserError(
            f"{self._title} cannot {what} {self._path.name} on {gpu}: {reason}",
            "build it again here, or take another precision",
        )
