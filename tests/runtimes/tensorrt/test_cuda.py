"""Events of a GPU through PyTorch, on a double of `torch.cuda`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from runtimes.tensorrt.cuda import TorchCuda


class Stream:
    """A stream that keeps what was put on it, and runs it when someone waits."""

    def __init__(self, device: object) -> None:
        self.cuda_stream = 7
        self.pending: list[float | Event] = []
        self.clock = 0.0

    def finish(self) -> None:
        for item in self.pending:
            if isinstance(item, Event):
                item.reached = self.clock
            else:
                self.clock += item
        self.pending.clear()


class Event:
    """An event whose time is known only after someone has waited for it."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.times = enable_timing
        self.stream: Stream | None = None
        self.reached: float | None = None

    def record(self, stream: Stream) -> None:
        self.stream = stream
        stream.pending.append(self)

    def synchronize(self) -> None:
        assert self.stream is not None
        self.stream.finish()

    def elapsed_time(self, end: "Event") -> float:
        assert self.times
        assert end.times
        if self.reached is None or end.reached is None:
            raise RuntimeError("the events were not recorded, or are not complete")
        return end.reached - self.reached


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> tuple[TorchCuda, Stream]:
    current: list[object] = []

    @contextmanager
    def on_stream(stream: object) -> Iterator[None]:
        current.append(stream)
        yield
        current.pop()

    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, Stream=Stream, Event=Event, stream=on_stream
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, device=lambda *name: name))
    opened = TorchCuda(0)
    stream = opened._stream
    stream.current = current
    return opened, stream


def test_milliseconds_are_those_of_the_work_and_not_of_what_was_enqueued_before(
    gpu: tuple[TorchCuda, Stream],
) -> None:
    cuda, stream = gpu
    stream.pending.append(100.0)

    def work() -> None:
        assert stream.current == [stream]
        stream.pending.extend((2.0, 0.5))

    assert cuda.milliseconds(work) == 2.5
    stream.pending.append(100.0)
    assert cuda.milliseconds(lambda: None) == 0
