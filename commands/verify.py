"""`verify`: engines against the PyTorch original."""

from dataclasses import dataclass
from pathlib import Path

import typer

from commands.check import check_file
from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from commands.tables import show_summary
from errors import UserError
from workflow.options import (
    DeviceOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    SubjectOptions,
    flag,
)


@dataclass(frozen=True)
class FileOptions:
    """The file that `check` is given, under the option's former name."""

    file: Path | None = flag("--file", help="The same as `check FILE`.", hidden=True)


@flattened
def verify(
    run: RunOptions,
    subjects: SubjectOptions,
    device: DeviceOptions,
    runtime: RuntimeOptions,
    file: FileOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Compare engines with the PyTorch original.

    On the whole test split; exit status 1 if one is out of tolerance.
    """
    from workflow.choice import session_from_options
    from workflow.measure import subjects_from_options, verified

    screen = Screen.from_options(output)
    if file.file is not None:
        if any(group != type(group)() for group in (run, subjects, device, runtime, redo)):
            raise UserError(
                f"--file {file.file} is checked by itself, and the other options are for a run",
                f"run `check {file.file}`, or leave --file out",
            )
        check_file(screen, file.file)
        return
    session = session_from_options(run, screen, redo.force)
    rows = verified(session, subjects_from_options(session, subjects, device.device), runtime)
    show_summary(screen, session.run, [])
    screen.finish("verify", run=str(session.run.path), rows=rows)
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)
