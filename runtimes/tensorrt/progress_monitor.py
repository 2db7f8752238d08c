"""A build that says which phase it is in and can be stopped.

TensorRT builds in a call that does not return for seconds or minutes. The call runs in a thread of its own,
so that Ctrl-C reaches the main thread at once; TensorRT then hears at its next step that it is to stop.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any

from progress import Progress

# Seconds between two looks at whether the build has ended.
_PATIENCE = 0.1


def serialized_network(
    trt: ModuleType, builder: Any, network: Any, config: Any, progress: Progress, title: str
) -> Any:
    """Call `builder.build_serialized_network`, and report its phases to `progress`.

    Returns:
        what the builder returns: the plan, or None where the build failed.

    Raises:
        KeyboardInterrupt: after TensorRT has stopped.
    """
    monitor = progress_monitor(trt)
    config.progress_monitor = monitor
    with ThreadPoolExecutor(1, "tensorrt-build") as pool:
        build = pool.submit(builder.build_serialized_network, network, config)
        try:
            for _ in progress(_phases(monitor, build), lambda: f"{title}{monitor.words}"):
                pass
        except BaseException:
            monitor.is_stopped = True
            raise
    return build.result()


def progress_monitor(trt: ModuleType) -> Any:
    """A `trt.IProgressMonitor` that passes on what TensorRT tells.

    - Its `events` are a queue of the names of phases, with one entry for each that begins.
    - Its `words` are ": " and the name of the innermost phase, for a line of text.
    - With its `is_stopped` set to True, TensorRT gives up the build at its next step.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Told of phases and steps by TensorRT, in the thread that builds."""

        def __init__(self) -> None:
            super().__init__()
            self.events: SimpleQueue[str] = SimpleQueue()
            self.is_stopped = False
            self._open: list[str] = []

        @property
        def words(self) -> str:
            innermost = self._open[-1:]
            return f": {innermost[0].lower()}" if innermost else ""

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._open.append(phase_name)
            self.events.put(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not self.is_stopped

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._open:
                self._open.remove(phase_name)

    return Monitor()


def _phases(monitor: Any, build: "Future[Any]") -> Iterator[str]:
    """The phases one by one as they begin, until the build has ended."""
    while not build.done():
        try:
            yield monitor.events.get(timeout=_PATIENCE)
        except Empty:
            continue
