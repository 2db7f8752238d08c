"""latency.svg: latency and throughput against the batch size, a line for each engine and precision."""

from itertools import groupby
from typing import Any

from artifacts.names import BENCHMARK, LATENCY_PLOT
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from plots import svg
from reporting.summary import engine_title, tables_of
from runtimes.engines import ENGINES
from verification.rows import Row
from vocabulary import Precision

# Every engine has a colour of its own in the table of engines, and a precision is a kind of line.
_LINES: dict[str, str] = {
    Precision.fp32: "-",
    Precision.fp16: "--",
    Precision.bf16: "-.",
    Precision.int8: ":",
    Precision.fp8: (0, (3, 1, 1, 1, 1, 1)),  # type: ignore[dict-item]
}


def latency_plot_from_benchmark(run: RunDirectory) -> bool:
    """Write latency.svg if benchmark.json has more than one batch size; return whether the plot is there."""
    plot = latency_plot(run, transparent=False)
    if plot is None:
        return False
    step = Step("latency-plot", {}, (BENCHMARK,), (LATENCY_PLOT,), ("matplotlib",))
    if not run.is_current(step):
        with run.writing(step) as folder:
            (folder / LATENCY_PLOT).write_text(plot, encoding="utf-8")
    return True


def latency_plot(run: RunDirectory, transparent: bool = True) -> str | None:
    """The plot as an `<svg>` element; None where fewer than two batch sizes were measured."""
    rows = tables_of(run).get(BENCHMARK, {"rows": []})["rows"]
    batches = sorted({row["batch"] for row in rows})
    if len(batches) < 2:
        return None

    def draw(figure: Any) -> None:
        latency, throughput = figure.subplots(1, 2)
        for label, line in _series(rows):
            style = _style(line[0])
            sizes = [row["batch"] for row in line]
            latency.plot(sizes, [row["p50_ms"] for row in line], label=label, **style)
            throughput.plot(sizes, [row["images_per_s"] for row in line], **style)
        for axes, title in ((latency, "median latency of a call, ms"), (throughput, "images/s")):
            axes.set(xscale="log", yscale="log", xlabel="batch size", title=title)
            axes.title.set_fontsize(10)
            axes.set_xticks(batches, [str(batch) for batch in batches])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=8)

    return svg(draw, (9.5, 3.6), transparent)


def _series(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each engine and precision by batch size, under a label, in the order of the table."""

    def identity(row: Row) -> tuple[int, str, int]:
        return list(ENGINES).index(row["engine"]), row["device"], list(Precision).index(row["precision"])

    ordered = sorted(rows, key=lambda row: (identity(row), row["batch"]))
    series = (list(line) for _, line in groupby(ordered, key=identity))
    return [
        (f"{engine_title(line[0]['engine'], line[0]['device'])} {line[0]['precision']}", line)
        for line in series
    ]


def _style(row: Row) -> dict[str, Any]:
    return {
        "color": ENGINES[row["engine"]].colour,
        "linestyle": _LINES[row["precision"]],
        "marker": "s" if row["device"] == "cuda" else "o",
        "markersize": 3.5,
    }
