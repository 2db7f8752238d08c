"""All that is known of a run's artifacts, a row for each engine and precision."""

from dataclasses import asdict, dataclass
from typing import Any

from artifacts import ACCURACY, BENCHMARK, CHECKPOINT, CHECKPOINT_CARD, ENGINES, PARITY, RunDirectory
from models.checkpoint import CheckpointCard, card_in
from verification.rows import Row, is_current, read_table

_SHOWN_BATCHES = (1, 32)


@dataclass(frozen=True)
class Line:
    """One engine in one precision; None where something has not been measured.

    Attributes:
        latency_ms: median by batch size; `speedup` is PyTorch's median over it.
        size: bytes of the artifact.
        verdict: "pass", "FAIL: …", "original", or why it was not run.
    """

    engine: str
    precision: str
    artifact: str
    size: int
    accuracy: float | None = None
    drop: float | None = None
    agreement: float | None = None
    snr_db: float | None = None
    latency_ms: dict[int, float] | None = None
    speedup: dict[int, float] | None = None
    verdict: str = "not verified"


@dataclass(frozen=True)
class Summary:
    """What a run holds: its network, the machine of the figures, and a line for each artifact."""

    card: CheckpointCard
    images: int | None
    machine: dict[str, Any] | None
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; accuracy figures of untrained weights are left out."""
        return asdict(self)


def summary_of(run: RunDirectory) -> Summary:
    """Read parity.json, accuracy.json and benchmark.json as far as they still hold."""
    card = card_in(run)
    tables = {name: _table(run, name) for name in (PARITY, ACCURACY, BENCHMARK)}
    rows = {name: table["rows"] for name, table in tables.items() if table}
    keys = dict.fromkeys(_key(row) for name in rows for row in rows[name])
    parity = tables[PARITY]
    original = parity["original_accuracy"] if parity and parity["rows"] else None
    lines = [_line(run, key, rows, card.trained, original) for key in keys]
    lines += [
        Line("trt", name.removeprefix(f"{ENGINES}/").split(".")[0], name, run.record(name).size,
             verdict="built, not run: no NVIDIA GPU here")
        for name in run.recorded(f"{ENGINES}/")
        if name.endswith(".engine") and name not in {key[2] for key in keys}
    ]  # fmt: skip
    order = {"torch": 0, "ort": 1, "openvino": 2, "trt": 3, "reference": 4}
    lines.sort(key=lambda line: (order[line.engine], line.precision not in ("fp32", "fp16"), line.precision))
    known = next((table for table in tables.values() if table), None)
    return Summary(
        card=card,
        images=parity["images"] if parity else None,
        machine=known["machine"] if known else None,
        lines=tuple(lines),
    )


def _table(run: RunDirectory, name: str) -> Row | None:
    if not run.is_intact(name):
        return None
    table = read_table(run.path / name)
    table["rows"] = [row for row in table["rows"] if is_current(run, row)]
    return table


def _key(row: Row) -> tuple[str, str, str]:
    return row["engine"], row["precision"], row["artifact"]


def _line(
    run: RunDirectory,
    key: tuple[str, str, str],
    rows: dict[str, list[Row]],
    trained: bool,
    accuracy_of_original: float | None,
) -> Line:
    own = {name: [row for row in table if _key(row) == key] for name, table in rows.items()}
    figures: Row = {}
    for name in (PARITY, ACCURACY):
        for row in own.get(name, []):
            figures |= row
    timed = [row for row in own.get(BENCHMARK, []) if row["batch"] in _SHOWN_BATCHES]
    names = [CHECKPOINT, CHECKPOINT_CARD] if key[2] == CHECKPOINT else [key[2]]
    if key[0] == "torch":
        figures["accuracy"] = accuracy_of_original
    return Line(
        *key,
        size=sum(run.record(name).size for name in names),
        accuracy=figures.get("accuracy") if trained else None,
        drop=figures.get("drop") if trained else None,
        agreement=figures.get("agreement") if trained else None,
        snr_db=figures.get("snr_db"),
        latency_ms={row["batch"]: row["p50_ms"] for row in timed} or None,
        speedup={row["batch"]: row["speedup"] for row in timed} or None,
        verdict=_verdict(key[0], figures),
    )


def _verdict(engine: str, figures: Row) -> str:
    if engine == "torch":
        return "original"
    if "passed" not in figures:
        return "not verified"
    return "pass" if figures["passed"] else "FAIL: " + "; ".join(figures["failures"])
