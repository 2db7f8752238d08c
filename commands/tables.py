"""The tables that several commands show."""

from typing import TYPE_CHECKING

from commands.screen import Screen
from runtimes.engines import ENGINES

if TYPE_CHECKING:
    from artifacts.run_directory import RunDirectory
    from calibration.searching.result import SearchResult
    from reporting.summary import Summary


def show_summary(screen: Screen, run: "RunDirectory", skipped: list[str]) -> None:
    """A line for each engine and precision of a run, and what was skipped."""
    from reporting.summary import COLUMNS, summary_of

    summary: Summary = summary_of(run)
    model = summary.card.model
    trained = "" if summary.card.trained else ", not trained"
    screen.table(
        f"{model.variant} ResNet-{model.depth} on {summary.card.dataset}{trained}",
        COLUMNS,
        [line.cells() for line in summary.lines],
    )
    if summary.measured_elsewhere:
        screen.say("warning", f"measured on {summary.measured_elsewhere}, not here: INT8 verdicts hold there")
    for reason in skipped:
        screen.say("skipped", reason)


def show_search(screen: Screen, result: "SearchResult", done: bool) -> None:
    """The best candidates of a search, the blocks that stay in float, and what to do."""
    from reporting.summary import number

    timed = [spec.name for spec in ENGINES.values() if spec.by_default]
    screen.table(
        "INT8 candidates, the best method of each",
        ["graph", "reparametrization", "method", "dB", "drop", *(f"{e} ms" for e in timed), "float blocks"],
        [
            [
                f"{row.flavour}, {row.stream} stream",
                row.reparametrization,
                row.method,
                number(row.snr_db, 1),
                number(row.drop, 2),
                *("/".join(number(ms, 2) for ms in row.latency_ms.get(e, {}).values()) for e in timed),
                str(len(row.float_blocks) or ""),
            ]
            for row in result.best_of_each_kind
        ],
        words=3,
    )
    for name in result.choice.float_blocks:
        screen.say("float", f"{name} stays in float: alone that gains {number(result.gains_db[name], 1)} dB")
    gpu = result.chosen["gpu"]
    over = ", over the limit" if gpu.drop is not None and gpu.drop > result.max_drop else ""
    screen.say("gpu", f"{gpu.stream} stream by its dB, not timed; drop {number(gpu.drop, 2)}{over}")
    if not result.trained:
        screen.say("search", "the weights are not trained: ranked by signal to noise alone, no accuracy")
    screen.say("search", f"{'' if done else 'up to date: '}{result.recommendation.reason}")
