"""All that is known of a run's artifacts, a row for each engine and precision."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from artifacts.names import ACCURACY, BENCHMARK, CHECKPOINT, CHECKPOINT_CARD, ENGINE_FOLDER, PARITY
from artifacts.run_directory import RunDirectory
from machine.description import processor_of, this_machine
from models.checkpoint import CheckpointCard, card_in
from runtimes.engines import ENGINES, engine_named
from runtimes.subjects import Subject
from verification.rows import Row, is_current, read_table
from vocabulary import Precision

_TABLES = (PARITY, ACCURACY, BENCHMARK)
_SHOWN_BATCHES = (1, 32)
# A part of the name of an adapted graph, for example "u8" or "b8"; see `export.adapted_graph`.
_ADAPTED = re.compile(r"u8|b\d+")
COLUMNS = [
    "engine", "", "top-1", "drop", "agree", "dB", "b1 ms", "×", "b32 ms", "×", "MB", "verdict",
]  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One engine in one precision; a figure is None where it has not been measured.

    Attributes:
        latency_ms: median by batch size; `speedup` is PyTorch's median over it, None without PyTorch.
        size: bytes of the artifact.
        verdict: "pass", "FAIL: …", "original", or why it was not run.
        saturation: of INT8 graphs for CPUs, "saturation-free" or which operators may not be.
    """

    engine: str
    precision: str
    artifact: str
    device: str
    size: int
    accuracy: float | None = None
    drop: float | None = None
    agreement: float | None = None
    snr_db: float | None = None
    latency_ms: dict[int, float] | None = None
    speedup: dict[int, float | None] | None = None
    verdict: str = "–"
    saturation: str = ""

    @property
    def judgement(self) -> str:
        """The verdict, followed by what is known of saturation."""
        return f"{self.verdict}, {self.saturation}" if self.saturation else self.verdict

    @property
    def title(self) -> str:
        """The engine, with the device if the engine runs on more than one, and how its input is adapted."""
        adapted = [part for part in self.artifact.split(".") if _ADAPTED.fullmatch(part)]
        return " ".join([engine_title(self.engine, self.device), *adapted])

    def cells(self) -> list[str]:
        """The line as text, a cell for each of `COLUMNS`."""
        latency, speedup = self.latency_ms or {}, self.speedup or {}
        return [
            self.title,
            self.precision,
            *(number(value, 2) for value in (self.accuracy, self.drop, self.agreement)),
            number(self.snr_db, 1),
            *(number(figure.get(b), 2) for b in _SHOWN_BATCHES for figure in (latency, speedup)),
            f"{self.size / 1e6:.2f}",
            self.judgement,
        ]


@dataclass(frozen=True)
class Summary:
    """What a run holds: its network, the machine of the figures, and a line for each artifact.

    Attributes:
        measured_elsewhere: CPU and instruction sets of the figures, if they are not this machine's.
    """

    card: CheckpointCard
    images: int | None
    machine: dict[str, Any] | None
    lines: tuple[Line, ...]
    measured_elsewhere: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; accuracy figures of untrained weights are left out."""
        return asdict(self)


def summary_of(run: RunDirectory) -> Summary:
    """Read parity.json, accuracy.json and benchmark.json as far as they still hold."""
    card = card_in(run)
    tables = tables_of(run)
    rows = {name: table["rows"] for name, table in tables.items()}
    subjects = dict.fromkeys(Subject.of_row(row) for name in rows for row in rows[name])
    parity = tables.get(PARITY)
    original = parity["original_accuracy"] if parity else None
    lines = [_line(run, subject, rows, card.trained, original) for subject in subjects]
    measured = {subject.artifact for subject in subjects}
    lines += [
        Line("trt", name.removeprefix(f"{ENGINE_FOLDER}/").split(".")[0], name, "cuda", run.record(name).size,
             verdict="not run")
        for name in run.recorded(f"{ENGINE_FOLDER}/")
        if name.endswith(".engine") and run.is_fresh(name) and name not in measured
    ]  # fmt: skip
    precisions: list[str] = list(Precision)
    lines.sort(key=lambda line: (list(ENGINES).index(line.engine), precisions.index(line.precision)))
    known = next(iter(tables.values()), None)
    return Summary(
        card=card,
        images=parity["images"] if parity else None,
        machine=known["machine"] if known else None,
        lines=tuple(lines),
        measured_elsewhere=_elsewhere(known["machine"]) if known else None,
    )


def tables_of(run: RunDirectory) -> dict[str, Row]:
    """The tables by file name, with the rows that still hold, as far as there are any.

    All are of the machine that measured last: a run that was taken from one machine to another must
    not show the verdicts of the first beside the latencies of the second.
    """
    tables = {
        name: read_table(run.path / name)
        for name in _TABLES
        if run.is_intact(name) and run.record(name).is_of_this_code
    }
    for table in tables.values():
        table["rows"] = [row for row in table["rows"] if is_current(run, row)]
    tables = {name: table for name, table in tables.items() if table["rows"]}
    newest = max(tables, key=lambda name: run.record(name).written, default=None)
    return {n: table for n, table in tables.items() if table["machine"] == tables[str(newest)]["machine"]}


def saturation_words(saturation: str | list[str] | None) -> str:
    """What a row of parity.json says of saturation; nothing where there is no INT8 kernel."""
    if saturation is None:
        return ""
    if isinstance(saturation, str):
        return "saturation-free"
    return f"may saturate without VNNI: {saturation[0]}" + (
        f" + {len(saturation) - 1}" if saturation[1:] else ""
    )


def engine_title(engine: str, device: str) -> str:
    """An engine's name, with CUDA behind it for an engine that runs on CPUs as well."""
    return f"{engine} CUDA" if device == "cuda" and engine_named(engine).only_device is None else engine


def number(value: float | None, digits: int) -> str:
    """A figure with so many decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _line(
    run: RunDirectory,
    subject: Subject,
    rows: dict[str, list[Row]],
    trained: bool,
    accuracy_of_original: float | None,
) -> Line:
    of_subject = {
        name: [row for row in table if Subject.of_row(row) == subject] for name, table in rows.items()
    }
    figures: Row = {}
    for name in (PARITY, ACCURACY):
        for row in of_subject.get(name, []):
            figures |= row
    timed = [row for row in of_subject.get(BENCHMARK, []) if row["batch"] in _SHOWN_BATCHES]
    names = [CHECKPOINT, CHECKPOINT_CARD] if subject.artifact == CHECKPOINT else [subject.artifact]
    if subject.is_original:
        figures["accuracy"] = accuracy_of_original
    return Line(
        **vars(subject),
        size=sum(run.record(name).size for name in names),
        accuracy=figures.get("accuracy") if trained else None,
        drop=figures.get("drop") if trained else None,
        agreement=figures.get("agreement") if trained else None,
        snr_db=figures.get("snr_db"),
        latency_ms={row["batch"]: row["p50_ms"] for row in timed} or None,
        speedup={row["batch"]: row["speedup"] for row in timed} or None,
        verdict=_verdict(subject, figures),
        saturation=saturation_words(figures.get("saturation")),
    )


def _elsewhere(machine: Row) -> str | None:
    """The processor of the figures, if it is not this machine's: INT8 depends on the instruction set."""
    measured = processor_of(machine)
    return measured if measured != this_machine().processor else None


def _verdict(subject: Subject, figures: Row) -> str:
    if subject.is_original:
        return "original"
    if "passed" not in figures:
        return "–"
    return "pass" if figures["passed"] else "FAIL: " + "; ".join(figures["failures"])
