"""What a workflow hands down to a stage, and what the stage opens, kept for a test to look at.

`stopped_at` replaces a stage, so that nothing slow runs. `opened_runtimes` and `HeardProgress` change
nothing: the stage runs, and the test sees what reached the end of the chain.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import signature
from typing import Any

import pytest

from progress import Description, Item
from runtimes.runtime import Runtime

Arguments = dict[str, Any]


class ReachedError(Exception):
    """Ends a workflow at the stage that a test watches, because nothing after that stage matters to it."""


def stopped_at(monkeypatch: pytest.MonkeyPatch, place: str) -> list[Arguments]:
    """Replace a function by one that keeps its arguments and raises `ReachedError`.

    Args:
        place: such as "verification.verify.verdicts_from_artifacts".

    Returns:
        a list that gets one entry for each call: every argument under its parameter's name, the defaults
        included, so that a test sees two positional arguments that were swapped.
    """
    calls: list[Arguments] = []

    def stopped(arguments: Arguments) -> None:
        calls.append(arguments)
        raise ReachedError

    _replace(monkeypatch, place, stopped)
    return calls


def answered_at(monkeypatch: pytest.MonkeyPatch, place: str, answer: object) -> list[Arguments]:
    """Replace a function by one that keeps its arguments, as `stopped_at` does, and returns `answer`."""
    calls: list[Arguments] = []

    def answered(arguments: Arguments) -> object:
        calls.append(arguments)
        return answer

    _replace(monkeypatch, place, answered)
    return calls


def _replace(monkeypatch: pytest.MonkeyPatch, place: str, stand_in: Any) -> None:
    module, _, name = place.rpartition(".")
    parameters = signature(getattr(import_module(module), name))

    def called(*positional: object, **named: object) -> object:
        bound = parameters.bind(*positional, **named)
        bound.apply_defaults()
        return stand_in(dict(bound.arguments))

    # A test may replace the same function twice.
    vars(called)["__signature__"] = parameters
    monkeypatch.setattr(place, called)


def opened_runtimes(monkeypatch: pytest.MonkeyPatch) -> list[Runtime]:
    """A list that gets every runtime that is opened from now on; each of them runs as it would."""
    opened: list[Runtime] = []
    enter = Runtime.__enter__

    def entered(runtime: Runtime) -> Runtime:
        opened.append(runtime)
        return enter(runtime)

    monkeypatch.setattr(Runtime, "__enter__", entered)
    return opened


class HeardProgress:
    """A listener that keeps the lines it is told and the description of every loop that was worked through.

    Attributes:
        lines: (stage, text) of each line.
        loops: the description of each loop, as it was when the loop began.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.loops: list[str] = []

    def say(self, stage: str, text: str) -> None:
        self.lines.append((stage, text))

    def progress(
        self, items: Iterable[Item], description: Description, total: int | None = None
    ) -> Iterator[Item]:
        self.loops.append(description() if callable(description) else description)
        return iter(items)
