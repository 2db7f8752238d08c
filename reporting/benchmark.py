"""A benchmark in words: what `benchmark` shows on the screen, as columns, cells and lines."""

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reporting.summary import engine_title, number
from verification.rows import Row

if TYPE_CHECKING:
    from verification.layer_profile import LayerProfile
    from verification.refusal import Refusal
    from verification.regressions import Changes

# The rest of a profile is in the JSON.
_SHOWN_LAYERS = 12
# What a line is about, and the line.
Line = tuple[str, str]


@dataclass(frozen=True)
class Table:
    """A table for people; see `commands.screen.Screen.table`."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    words: int = 2


def latency_table(rows: list[Row]) -> Table:
    """A row for each engine and batch size; the device's own time is a column where a device has a clock."""
    on_device = any(row["device_ms"] is not None for row in rows)
    return Table(
        "Latency from host to host; × is over float32 PyTorch, with 95 % limits",
        [
            *("engine", "", "batch", "p50 ms", "p99 ms"),
            *(["device ms"] if on_device else []),
            *("images/s", "×", "95 %", "× best PyTorch"),
        ],
        [
            [
                *_who(row),
                number(row["p50_ms"], 3),
                number(row["p99_ms"], 3),
                *([number(row["device_ms"], 3)] if on_device else []),
                number(row["images_per_s"], 0),
                number(row["speedup"], 2),
                _limits(row["speedup_interval"]),
                number(row["over_best"], 2),
            ]
            for row in rows
        ],
    )


def cost_table(rows: list[Row]) -> Table:
    """What comes before an engine is fast, and the GPU's state while it was timed."""
    return Table(
        "Before that: loading and the first call at that batch size, and the memory that each of them added",
        ["engine", "", "batch", "calls", "p90 ms", "load ms", "first ms", "host MB", "GPU MB", "GPU"],
        [
            [
                *_who(row),
                str(row["calls"]),
                number(row["p90_ms"], 3),
                number(row["load_ms"], 0),
                number(row["first_ms"], 0),
                _load_and_first(row["host_mb"]),
                _load_and_first(row["device_mb"]),
                _gpu_words(row["gpu"]),
            ]
            for row in rows
        ],
    )


def refusal_lines(refusals: "list[Refusal]") -> list[Line]:
    """A line for each engine and reason, with the precisions that share them."""
    grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for refusal in refusals:
        at = "" if refusal.batch is None else f" at batch {refusal.batch}"
        title = engine_title(refusal.engine, refusal.device)
        grouped[title, refusal.status, at, refusal.reason, refusal.fix].append(refusal.precision)
    return [
        (status, f"{title} {', '.join(precisions)}{at}: {reason} ({fix})")
        for (title, status, at, reason, fix), precisions in grouped.items()
    ]


def best_lines(rows: list[Row]) -> list[Line]:
    """The fastest form of PyTorch at each batch size, a line for each device."""
    best = {(row["device"], row["batch"]): row["best_pytorch"] for row in rows if row["best_pytorch"]}
    lines = []
    for device in dict.fromkeys(device for device, _ in best):
        named = [
            f"{name.removesuffix(f' on {device}')} (batch {batch})"
            for (at, batch), name in best.items()
            if at == device
        ]
        lines.append(("PyTorch", f"best of those measured on {device}: {', '.join(named)}"))
    return lines


def layer_table(profile: "LayerProfile", every: bool) -> Table | None:
    """The slowest layers first, each with its share of the sum; None where the runtime has no profile.

    Args:
        every: whether to name every layer, or the slowest ones and the sum of the rest.
    """
    if profile.layers is None:
        return None
    total = sum(layer.ms for layer in profile.layers)
    shown = profile.layers if every else profile.layers[:_SHOWN_LAYERS]
    rows = [_layer_cells(layer.ms, total, layer.name) for layer in shown]
    if rest := profile.layers[len(shown) :]:
        rows.append(_layer_cells(sum(layer.ms for layer in rest), total, f"{len(rest)} more (-v shows them)"))
    title = f"{profile_title(profile)} at batch {profile.batch}, layer by layer"
    return Table(title, ["ms", "%", "layer"], rows, words=0)


def profile_title(profile: "LayerProfile") -> str:
    """The engine and the precision that a profile is of."""
    subject = profile.subject
    return f"{engine_title(subject.engine, subject.device)} {subject.precision}"


def change_lines(changes: "Changes") -> list[Line]:
    """A line for each change and each row that stands alone, and one that counts them."""
    return [
        *(("regression", change.words) for change in changes.regressions),
        *(("faster", change.words) for change in changes.improvements),
        *(("stopped", f"{name}: ran before and does not now") for name in changes.stopped),
        *(("missing", f"{name}: measured before and not now") for name in changes.missing_now),
        *(("new", f"{name}: not measured before") for name in changes.missing_before),
        (
            "compare",
            f"regressions: {len(changes.regressions)}, improvements: {len(changes.improvements)}, "
            f"unchanged: {changes.same}; in a change the 95 % limits of × lie apart by more than "
            f"{100 * changes.margin:.0f} %",
        ),
    ]


def _who(row: Row) -> list[str]:
    return [engine_title(row["engine"], row["device"]), row["precision"], str(row["batch"])]


def _limits(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}"


def _load_and_first(memory: dict[str, float | None] | None) -> str:
    """The memory of loading and of the first call."""
    if memory is None or memory["load"] is None or memory["first"] is None:
        return "–"
    return f"{memory['load']:.0f} + {memory['first']:.0f}"


def _gpu_words(state: dict[str, float | None] | None) -> str:
    if state is None:
        return "–"
    units = {"sm_clock_mhz": "MHz", "power_w": "W", "temperature_c": "°C"}
    return " ".join(f"{state[name]:.0f} {unit}" for name, unit in units.items() if state[name] is not None)


def _layer_cells(ms: float, total: float, name: str) -> list[str]:
    return [f"{ms:.3f}", f"{100 * ms / total:.1f}", name]
