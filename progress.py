"""How a stage tells that it is getting on, without knowing who listens.

A stage takes a `Progress` and wraps its loop in it; `cli.py` passes one that draws a bar, everyone
else passes `silent`.
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
            description: of the work; a function is called again after each item.
        """
        ...


def silent(items: Iterable[Item], description: Description, total: int | None = None) -> Iterator[Item]:
    """Report nothing."""
    return iter(items)
