"""The tables that several commands show."""

import re
from typing import TYPE_CHECKING

from commands.screen import Screen
from runtimes.engines import ENGINES

if TYPE_CHECKING:
    from artifacts.run_directory import RunDirectory
    from calibration.searching.result import SearchResult
    from reporting.summary import Summary
    from runtimes.tensorrt.engine_card import EngineCard
    from runtimes.tensorrt.plan_layers import Layer, Tensor


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


def show_layers(screen: Screen, run: "RunDirectory", name: str, card: "EngineCard") -> None:
    """A line for each kernel of an engine, at the largest batch size that is told, and TensorRT's warnings.

    Args:
        name: of the engine in the run directory.
    """
    from runtimes.tensorrt.engine_card import files_of_engine, layers_of_engine
    from runtimes.tensorrt.plan_layers import kernels_of

    for text, count in card.warnings.items():
        screen.say("warning", f"{count} times: {text}")
    screen.say("proof", card.proof_sentence)
    if not card.traffic:
        return
    told = card.traffic[-1]
    for file in files_of_engine(name):
        run.verified(file)
    kernels = kernels_of(layers_of_engine(run.path / name), told.profile)
    rows = [_layer_cells(kernel, told.batch) for kernel in kernels]
    total = ["", "", f"{told.kernels} kernels", f"{told.read_mb:.3f}", f"{told.written_mb:.3f}", ""]
    screen.table(
        f"{name} at batch {told.batch}",
        ["kernel", "kind", "types", "MB read", "MB written", "ONNX nodes"],
        [*rows, total],
        words=3,
    )


def _layer_cells(layer: "Layer", batch: int) -> list[str]:
    return [
        _short_name(layer.name),
        layer.kind,
        f"{_types(layer.inputs)} > {_types(layer.outputs)}",
        f"{layer.bytes_read(batch) / 1e6:.3f}",
        f"{layer.bytes_written(batch) / 1e6:.3f}",
        " ".join(layer.nodes),
    ]


def _short_name(name: str, width: int = 28) -> str:
    """A kernel's name without TensorRT's prefix and numbers, cut at a number of letters."""
    short = re.sub(r"^__myl_| \[profile \d+\]|(_U\d+)?_myl\d+_\d+$", "", name)
    return short if len(short) <= width else f"{short[: width - 1]}…"


def _types(tensors: "tuple[Tensor, ...]") -> str:
    return "+".join(dict.fromkeys(tensor.type for tensor in tensors)) or "–"
