"""`benchmark`: engines timed in turns with PyTorch."""

import typer

from commands.benchmark_tables import show_benchmark
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

    Exit status 1 if a check failed or --compare finds a regression, 2 if a named engine does not run here.
    """
    from workflow.benchmark import benchmark_of, outcome_fields
    from workflow.choice import session_from_options

    screen = Screen.from_options(output)
    session = session_from_options(run, screen, redo.force)
    outcome = benchmark_of(session, subjects, device.device, runtime, timing)
    show_benchmark(screen, outcome)
    screen.finish("benchmark", run=str(session.run.path), **outcome_fields(outcome))
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)
