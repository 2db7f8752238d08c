import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pretended_tensorrt import PretendedTensorRT

from progress import Description, Item, silent
from runtimes.tensorrt.progress_monitor import progress_monitor, serialized_network

PACKAGE: Any = PretendedTensorRT()


def _build(work: Any, progress: Any = silent) -> Any:
    """Run `work` with the monitor, in place of TensorRT's build."""
    config = SimpleNamespace()

    def build(network: object, config: Any) -> Any:
        return work(config.progress_monitor)

    builder = SimpleNamespace(build_serialized_network=build)
    return serialized_network(PACKAGE, builder, None, config, progress, "building")


def test_phases_are_reported_as_they_begin() -> None:
    said: list[str] = []

    def progress(items: Iterable[Item], description: Description, total: int | None = None) -> Iterator[Item]:
        assert callable(description)
        said.append(description())
        heard.set()
        for item in items:
            said.append(description())
            heard.set()
            yield item

    heard = threading.Event()

    def work(monitor: Any) -> str:
        assert heard.wait(10)
        heard.clear()
        monitor.phase_start("Building engine", None, 2)
        assert heard.wait(10)
        heard.clear()
        monitor.phase_start("Timing tactics", "Building engine", 3)
        assert heard.wait(10)
        monitor.phase_finish("Timing tactics")
        monitor.phase_finish("Building engine")
        return "plan"

    assert _build(work, progress) == "plan"
    assert said == ["building", "building: building engine", "building: timing tactics"]


def test_phases_of_one_name_may_be_open_twice() -> None:
    monitor = progress_monitor(PACKAGE)
    for name in ("Timing", "Timing", "Costs"):
        monitor.phase_start(name, None, 1)
    monitor.phase_finish("Costs")
    monitor.phase_finish("Timing")
    assert monitor.words == ": timing"
    monitor.phase_finish("Timing")
    monitor.phase_finish("never begun")
    assert monitor.words == ""


def test_ctrl_c_makes_tensorrt_stop_at_its_next_step() -> None:
    steps = []

    def interrupted(
        items: Iterable[Item], description: Description, total: int | None = None
    ) -> Iterator[Item]:
        for item in items:
            yield item
            raise KeyboardInterrupt

    def work(monitor: Any) -> None:
        monitor.phase_start("Building engine", None, 2)
        while monitor.step_complete("Building engine", len(steps)):
            steps.append(threading.get_ident())

    with pytest.raises(KeyboardInterrupt):
        _build(work, interrupted)
    # The build ran in a thread of its own, which has ended.
    assert threading.get_ident() not in steps
    assert not any(thread.name.startswith("tensorrt-build") for thread in threading.enumerate())


def test_what_goes_wrong_in_the_build_is_raised_here() -> None:
    def work(monitor: Any) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _build(work)
