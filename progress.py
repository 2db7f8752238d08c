"""How a stage tells that it is getting on, without knowing who listens.

A stage takes a `Progress` and wraps its loop in it. The command line passes a `Progress` that draws a bar,
and everyone else passes `silent`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Description = str | Callable[[], str]


class Progress(Protocol):
    """Wraps an iterable and reports each item it hands out."""

    def __call__(
        self, items: Iterable[Item], description: Description, total: int | None = None
    ) -> Iterator[Item]:
        """Yield `items` unchanged; `total` is needed where `len(items)` is not known.

        Args:
            description: what is being done. A function is called again after each item.
        """
        ...


def silent(items: Iterable[Item], description: Description, total: int | None = None) -> Iterator[Item]:
    """Hand the items on and report nothing."""
    return iter(items)
