"""Where words, tables, bars and the final JSON go."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from progress import Description, Item
from workflow.options import switch

# Wide enough for the widest table where there is no terminal to ask.
_PIPED_WIDTH = 150


@dataclass(frozen=True)
class JsonOptions:
    """Whether a program reads the result."""

    as_json: bool = switch("--json", help="One JSON document on standard output; the rest on standard error.")


@dataclass(frozen=True)
class OutputOptions(JsonOptions):
    """How much is said, and to whom."""

    quiet: bool = switch("--quiet", "-q", help="Results and errors only.")
    verbose: bool = switch("--verbose", "-v", help="Say how long each step took.")


class Screen:
    """The listener of the command line; see `workflow.listener.Listener`.

    Args:
        as_json: one document on standard output, and everything else on standard error.
        quiet: neither words nor bars.
        verbose: add to each line how long the step took.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._since = time.perf_counter()

    @classmethod
    def from_options(cls, options: OutputOptions) -> "Screen":
        """The screen that the options describe."""
        return cls(options.as_json, options.quiet, options.verbose)

    @cached_property
    def _console(self) -> Any:
        from rich.console import Console

        console = Console(stderr=self.as_json, highlight=False)
        if not console.is_terminal:
            console.width = _PIPED_WIDTH
        return console

    def say(self, stage: str, text: str) -> None:
        """One line: the stage, and what came of it."""
        now = time.perf_counter()
        if self.verbose:
            text += f" ({now - self._since:.1f} s)"
        self._since = now
        if not self.quiet:
            self._console.print(f"{stage:<10} {text}", markup=False, soft_wrap=True)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], words: int = 2
    ) -> None:
        """A table with the first `words` columns and the last to the left, and figures to the right."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        # Narrow enough for a terminal of 80 columns.
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=0 if len(columns) > 8 else (0, 1, 0, 0),
        )
        for index, name in enumerate(columns):
            left = index < words or name == columns[-1]
            table.add_column(name, justify="left" if left else "right", no_wrap=name != columns[-1])
        for row in rows:
            table.add_row(*row)
        self._console.print(table, markup=False)

    def finish(self, command: str, **document: Any) -> None:
        """The JSON document, if it was asked for."""
        if self.as_json:
            text = json.dumps({"command": command, **document}, indent=1, default=str)
            sys.stdout.write(text + "\n")

    def progress(
        self, items: Iterable[Item], description: Description, total: int | None = None
    ) -> Iterator[Item]:
        """Draw a bar while the items are worked through; see `progress.Progress`."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=self.quiet or not console.is_terminal,
        ) as bar:
            text = description if callable(description) else lambda: description
            count = len(items) if total is None and isinstance(items, Sized) else total
            task = bar.add_task(text(), total=count)
            for item in items:
                yield item
                bar.update(task, advance=1, description=text())
