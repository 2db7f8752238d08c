"""`benchmark`: engines timed in turns with PyTorch."""

from typing import Any

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from workflow.options import (
    DeviceOptions,
    RedoOptions,
    RunOptions,
    RuntimeOptions,
    SubjectOptions,
    TimingOptions,
)


@flattened
def benchmark(
    run: RunOptions,
    subjects: SubjectOptions,
    device: DeviceOptions,
    runtime: RuntimeOptions,
    timing: TimingOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Time engines in turns with PyTorch."""
    from workflow.choice import session_from_options
    from workflow.measure import benchmarked, subjects_from_options

    screen = Screen.from_options(output)
    session = session_from_options(run, screen, redo.force)
    chosen = subjects_from_options(session, subjects, device.device)
    rows = benchmarked(session, chosen, runtime, timing)
    _show(screen, rows)
    screen.finish("benchmark", run=str(session.run.path), rows=rows)


def _show(screen: Screen, rows: list[dict[str, Any]]) -> None:
    from reporting.summary import number

    screen.table(
        "Latency of a call, host to host",
        ["engine", "precision", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s", "calls", "over PyTorch"],
        [
            [
                row["engine"],
                row["precision"],
                str(row["batch"]),
                *(number(row[name], 3) for name in ("p50_ms", "p90_ms", "p99_ms")),
                number(row["images_per_s"], 0),
                str(row["calls"]),
                f"{row['speedup']:.2f}×",
            ]
            for row in rows
        ],
    )
