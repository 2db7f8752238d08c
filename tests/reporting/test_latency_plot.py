import re
from typing import Any

import pytest
from made_up_tables import subjects_in, timing, write_table

from artifacts.names import BENCHMARK, LATENCY_PLOT
from artifacts.run_directory import RunDirectory
from machine.description import this_machine
from reporting.latency_plot import latency_plot, latency_plot_from_benchmark
from runtimes.subjects import Subject


def measured(run: RunDirectory, *batches: int) -> None:
    """Rows of two precisions at some batch sizes, not in order, and of PyTorch."""
    torch, fp32, int8 = subjects_in(run, ("torch", "fp32"), ("ort", "fp32"), ("ort", "int8"))
    pace: dict[Subject, float] = {torch: 4.0, fp32: 2.0, int8: 1.0}
    rows: list[tuple[Subject, dict[str, Any]]] = [
        (subject, timing(batch, ms * batch, 4.0 * batch)) for batch in batches for subject, ms in pace.items()
    ]
    write_table(run, BENCHMARK, *rows, machine=this_machine().to_json())


def paths_of_lines(svg: str) -> list[str]:
    """The path of each line of the two panels; grid, ticks and frames have no such long ones."""
    return re.findall(
        r'<path d="(M [^"]*(?:\n?L [^"]*){2,}?)" clip-path[^>]*style="fill: none;[^"]*stroke: #', svg
    )


def test_a_line_for_each_engine_and_precision(preact_run: RunDirectory) -> None:
    measured(preact_run, 32, 1, 8)
    assert latency_plot_from_benchmark(preact_run)
    svg = preact_run.verified(LATENCY_PLOT).read_text()
    for label in ("torch fp32", "ort fp32", "ort int8"):
        assert svg.count(f">{label}<") == 1
    for word in ("median latency of a call, ms", "images/s", "batch size"):
        assert word in svg
    # The two precisions of one engine share its colour and differ in their dashes.
    assert svg.count("stroke: #2563eb") > 0 and "stroke-dasharray" in svg


def test_points_are_joined_in_the_order_of_the_batch_sizes(preact_run: RunDirectory) -> None:
    measured(preact_run, 32, 1, 8)
    paths = paths_of_lines(latency_plot(preact_run) or "")
    assert len(paths) >= 6
    for path in paths:
        across = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path)]
        assert across == sorted(across)


@pytest.mark.parametrize("batches", [(), (8,)])
def test_one_batch_size_is_no_line(preact_run: RunDirectory, batches: tuple[int, ...]) -> None:
    if batches:
        measured(preact_run, *batches)
    assert latency_plot(preact_run) is None
    assert not latency_plot_from_benchmark(preact_run)
    assert LATENCY_PLOT not in preact_run


def test_plot_is_drawn_again_when_the_figures_change(preact_run: RunDirectory) -> None:
    measured(preact_run, 1, 8)
    latency_plot_from_benchmark(preact_run)
    written = preact_run.record(LATENCY_PLOT)
    latency_plot_from_benchmark(preact_run)
    assert preact_run.record(LATENCY_PLOT) == written
    measured(preact_run, 1, 16)
    latency_plot_from_benchmark(preact_run)
    assert preact_run.record(LATENCY_PLOT).sha256 != written.sha256
