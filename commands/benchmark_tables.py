"""What `benchmark` shows: latencies, what did not run, what has changed, and layers."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from commands.screen import Screen

if TYPE_CHECKING:
    from verification.layer_profile import LayerProfile
    from verification.refusal import Refusal
    from verification.regressions import Changes
    from workflow.benchmark import Outcome

Row = dict[str, Any]
# The rest of a profile is in the JSON.
_SHOWN_LAYERS = 12


def show_benchmark(screen: Screen, outcome: "Outcome") -> None:
    """Every table that there is something to put into."""
    _show_latencies(screen, outcome.rows)
    if screen.verbose:
        _show_costs(screen, outcome.rows)
    _show_refusals(screen, outcome.refusals)
    _show_best(screen, outcome.rows)
    for profile in outcome.profiles:
        _show_layers(screen, profile)
    if outcome.changes is not None:
        _show_changes(screen, outcome.changes)


def _show_latencies(screen: Screen, rows: list[Row]) -> None:
    from reporting.summary import number

    on_device = any(row["device_ms"] is not None for row in rows)
    screen.table(
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


def _show_costs(screen: Screen, rows: list[Row]) -> None:
    from reporting.summary import number

    screen.table(
        "What comes before: loading and the first call at that batch size, and the memory that each added",
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


def _show_refusals(screen: Screen, refusals: "list[Refusal]") -> None:
    """A line for each engine and reason; engines in several precisions often share one."""
    grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for refusal in refusals:
        at = "" if refusal.batch is None else f" at batch {refusal.batch}"
        key = (_title(refusal.engine, refusal.device), refusal.status, at, refusal.reason, refusal.fix)
        grouped[key].append(refusal.precision)
    for (title, status, at, reason, fix), precisions in grouped.items():
        screen.say(status, f"{title} {', '.join(precisions)}{at}: {reason} ({fix})")


def _show_best(screen: Screen, rows: list[Row]) -> None:
    """The fastest form of PyTorch at each batch size, for each device."""
    best = {(row["device"], row["batch"]): row["best_pytorch"] for row in rows if row["best_pytorch"]}
    for device in dict.fromkeys(device for device, _ in best):
        named = [
            f"{name.removesuffix(f' on {device}')} (batch {batch})"
            for (at, batch), name in best.items()
            if at == device
        ]
        screen.say("PyTorch", f"best of those measured on {device}: {', '.join(named)}")


def _show_layers(screen: Screen, profile: "LayerProfile") -> None:
    title = f"{_title(profile.subject.engine, profile.subject.device)} {profile.subject.precision}"
    if profile.layers is None:
        screen.say("profile", f"{title}: this runtime tells no times of layers")
        return
    total = sum(layer.ms for layer in profile.layers)
    shown = profile.layers if screen.verbose else profile.layers[:_SHOWN_LAYERS]
    rows = [[f"{layer.ms:.3f}", f"{100 * layer.ms / total:.1f}", layer.name] for layer in shown]
    if rest := profile.layers[len(shown) :]:
        left = sum(layer.ms for layer in rest)
        rows.append([f"{left:.3f}", f"{100 * left / total:.1f}", f"{len(rest)} more (-v shows them)"])
    screen.table(f"{title} at batch {profile.batch}, layer by layer", ["ms", "%", "layer"], rows, words=0)


def _show_changes(screen: Screen, changes: "Changes") -> None:
    for change in changes.regressions:
        screen.say("regression", change.words)
    for change in changes.improvements:
        screen.say("faster", change.words)
    for name in changes.missing_now:
        screen.say("missing", f"{name}: measured before and not now")
    for name in changes.missing_before:
        screen.say("new", f"{name}: not measured before")
    screen.say(
        "compare",
        f"{len(changes.regressions)} regressions, {len(changes.improvements)} improvements, {changes.same} "
        f"unchanged; in a change the 95 % limits of × lie apart by more than {100 * changes.margin:.0f} %",
    )


def _who(row: Row) -> list[str]:
    return [_title(row["engine"], row["device"]), row["precision"], str(row["batch"])]


def _title(engine: str, device: str) -> str:
    from reporting.summary import engine_title

    return engine_title(engine, device)


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
