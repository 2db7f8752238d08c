"""report.html: one self-contained page with the table, the plots and where the figures come from."""

import json
import math
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from artifacts.names import AUDIT, BENCHMARK, BLOCK_ERROR, CHECKPOINT, REPORT, TRAINING_LOG
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.searching.search import search_in
from machine.description import package_versions
from plots import svg
from reporting.engines import engine_tables
from reporting.latency_plot import latency_plot
from reporting.summary import Summary, engine_title, number, summary_of, tables_of
from runtimes.engines import ENGINES


def report_from_results(run: RunDirectory, notes: list[str]) -> Summary:
    """Write report.html from what the run holds.

    Args:
        notes: what was skipped and why, one line for each stage.
    """
    summary = summary_of(run)
    page = _page(run, summary, notes)
    step = Step("report", {"notes": notes}, (), (REPORT,))
    with run.writing(step) as folder:
        (folder / REPORT).write_text(page, encoding="utf-8")
    return summary


def _page(run: RunDirectory, summary: Summary, notes: list[str]) -> str:
    from jinja2 import Environment

    template = resources.files("reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    audit = _current(run, AUDIT)
    return environment.from_string(template).render(
        card=summary.card,
        summary=summary,
        audit=audit,
        notes=notes,
        throughput_plot=_throughput_plot(run),
        latency_plot=latency_plot(run),
        engines=engine_tables(run),
        block_error_plot=_block_error_plot(run),
        search=search_in(run),
        training_plot=_training_plot(run),
        versions=package_versions(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _throughput_plot(run: RunDirectory) -> str | None:
    """Images a second by engine and precision, a panel for each batch size."""
    tables = tables_of(run)
    if BENCHMARK not in tables:
        return None
    rows = tables[BENCHMARK]["rows"]
    batches = sorted({row["batch"] for row in rows})

    def draw(figure: Any) -> None:
        for axes, batch in zip(figure.subplots(1, len(batches), squeeze=False)[0], batches, strict=True):
            of_batch = [row for row in rows if row["batch"] == batch][::-1]
            labels = [f"{engine_title(row['engine'], row['device'])} {row['precision']}" for row in of_batch]
            rates = [row["images_per_s"] for row in of_batch]
            bars = axes.barh(labels, rates, color=[ENGINES[row["engine"]].colour for row in of_batch])
            axes.bar_label(bars, [f"{number(row['speedup'], 2)}×" for row in of_batch], padding=3, fontsize=8)
            axes.set_title(f"batch {batch}", fontsize=10)
            axes.set_xlabel("images/s (label: over float32 PyTorch)", fontsize=8)
            axes.margins(x=0.3)
            if batch != batches[0]:
                axes.set_yticklabels([])

    return svg(draw, (9.5, 0.4 * len(rows) / len(batches) + 1.2))


def _block_error_plot(run: RunDirectory) -> str | None:
    """Signal to noise of each block's output, a line for each flavour and stream."""
    document = _current(run, BLOCK_ERROR)
    if document is None:
        return None

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for series in document["series"]:
            label = f"{series['flavour']}, {series['stream']} stream"
            heights = [math.nan if db is None else db for db in series["blocks"].values()]
            axes.plot(
                range(1, len(heights) + 1), heights, label=label, marker="." if len(heights) < 60 else ""
            )
        axes.set_xlabel("block")
        axes.set_ylabel("signal to noise of its output, dB")
        axes.legend(fontsize=8)

    return svg(draw, (7, 3))


def _current(run: RunDirectory, name: str) -> dict[str, Any] | None:
    """A JSON file of the run, if it was made from the files that are there now."""
    if not (run.is_intact(name) and run.is_fresh(name)):
        return None
    return json.loads((run.path / name).read_text())


def _is_of_these_weights(run: RunDirectory) -> bool:
    """Whether the training log was written with the weights, and not left by weights that were replaced."""
    log, weights = run.record(TRAINING_LOG), run.record(CHECKPOINT)
    return (log.stage, log.options) == (weights.stage, weights.options)


def _training_plot(run: RunDirectory) -> str | None:
    """Loss and held-out accuracy by epoch."""
    if not (run.is_intact(TRAINING_LOG) and _is_of_these_weights(run)):
        return None
    log = run.json_lines(TRAINING_LOG)
    epochs = [line["epoch"] for line in log]

    def draw(figure: Any) -> None:
        loss = figure.subplots()
        loss.plot(epochs, [line["loss"] for line in log], color="#b45309", marker=".")
        loss.set_xlabel("epoch")
        loss.set_ylabel("training loss", color="#b45309")
        loss.set_ylim(bottom=0)
        accuracy = loss.twinx()
        accuracy.plot(epochs, [line["held_out_accuracy"] for line in log], color="#2563eb", marker=".")
        accuracy.set_ylabel("held-out accuracy, %", color="#2563eb")

    return svg(draw, (6, 2.8))
