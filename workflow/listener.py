"""Who is told how a workflow is getting on: the command line's screen, or nobody."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from progress import Description, Item, silent


class Listener(Protocol):
    """Hears a line for each stage, and sees the items of long loops pass by."""

    def say(self, stage: str, text: str) -> None:
        """One line: the stage, and what came of it."""
        ...

    def progress(
        self, items: Iterable[Item], description: Description, total: int | None = None
    ) -> Iterator[Item]:
        """Hand out the items one by one; see `progress.Progress`."""
        ...


class Nobody:
    """Hears nothing and shows nothing."""

    def say(self, stage: str, text: str) -> None:
        """Forget the line."""

    def progress(
        self, items: Iterable[Item], description: Description, total: int | None = None
    ) -> Iterator[Item]:
        """Hand out the items one by one."""
        return silent(items, description, total)


NOBODY = Nobody()


@contextmanager
def busy(listener: Listener, description: str) -> Iterator[None]:
    """Show a bar without steps, for work of a few seconds whose steps cannot be counted."""
    for _ in listener.progress([None], description):
        yield
