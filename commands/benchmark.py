"""`benchmark`: engines timed in turns with PyTorch."""

from typing import TYPE_CHECKING

import typer

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from workflow.options import (
    BenchmarkOptions,
    DeviceOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    TimedSubjectOptions,
)

if TYPE_CHECKING:
    from reporting.benchmark import Table
    from workflow.benchmark import Outcome


@flattened
def benchmark(
    run: RunOptions,
    subjects: TimedSubjectOptions,
    device: DeviceOptions,
    runtime: RuntimeOptions,
    timing: BenchmarkOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Time engines in turns with PyTorch.

    Exit status 1 if a check failed, or --compare finds a regression or an engine that does not run any more;
    2 if a named engine does not run here.
    """
    from workflow.benchmark import benchmark_of, outcome_fields
    from workflow.choice import session_from_options

    screen = Screen.from_options(output)
    session = session_from_options(run, screen, redo.force)
    outcome = benchmark_of(session, subjects, device.device, runtime, timing)
    _show(screen, outcome)
    screen.finish("benchmark", run=str(session.run.path), **outcome_fields(outcome))
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)


def _show(screen: Screen, outcome: "Outcome") -> None:
    from reporting.benchmark import (
        best_lines,
        change_lines,
        cost_table,
        latency_table,
        layer_table,
        profile_title,
        refusal_lines,
    )

    _show_table(screen, latency_table(outcome.rows))
    if screen.verbose:
        _show_table(screen, cost_table(outcome.rows))
    for profile in outcome.profiles:
        if (table := layer_table(profile, screen.verbose)) is not None:
            _show_table(screen, table)
        else:
            screen.say("profile", f"{profile_title(profile)}: this runtime tells no times of layers")
    changes = [] if outcome.changes is None else change_lines(outcome.changes)
    for stage, text in (*refusal_lines(outcome.refusals), *best_lines(outcome.rows), *changes):
        screen.say(stage, text)


def _show_table(screen: Screen, table: "Table") -> None:
    screen.table(table.title, table.columns, table.rows, table.words)
