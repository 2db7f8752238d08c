"""What a search comes to: every candidate with its figures, the plan that was chosen, and the advice."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from calibration.plan import Plan

# Median milliseconds of a call, by engine and batch size.
LatencyByEngine = dict[str, dict[str, float]]


@dataclass(frozen=True)
class MeasuredCandidate:
    """One way to quantize with what was measured of it.

    Attributes:
        reparametrization, method: in words.
        snr_db: of the logits on held-out images; None where nothing differs, since JSON has no infinity.
        drop: points of accuracy lost on the calibration split; None where that was not measured.
        latency_ms: empty for the candidates that were not timed.
    """

    flavour: str
    reparametrization: str
    method: str
    stream: str
    float_blocks: tuple[str, ...]
    snr_db: float | None
    drop: float | None
    latency_ms: LatencyByEngine = field(default_factory=dict)

    @property
    def comparable_db(self) -> float:
        """Signal to noise as a number that can be compared: infinity where nothing differs."""
        return inf if self.snr_db is None else self.snr_db


@dataclass(frozen=True)
class Recommendation:
    """An artifact and the runtime it is fastest in.

    Attributes:
        int8_pays: whether it is INT8.
        reason: one line for the user.
    """

    engine: str
    precision: str
    artifact: str
    int8_pays: bool
    reason: str


@dataclass(frozen=True)
class Images:
    """How many images the figures are of."""

    calibration: int
    held_out: int


@dataclass(frozen=True)
class SearchResult:
    """The content of search.json.

    Attributes:
        machine: the latencies are of this machine.
        trained: False for initialised weights, of which no drop is known.
        max_drop: the limit, in points.
        candidates: all that were measured.
        float_ms: latencies of the float graph.
        gains_db: what leaving a block in float alone gains in dB; None where nothing then differs.
        choice: the plan that the run's graphs are made by.
        chosen: the candidate for each flavour.
    """

    trained: bool
    max_drop: float
    images: Images
    candidates: tuple[MeasuredCandidate, ...]
    float_ms: LatencyByEngine
    gains_db: dict[str, float | None]
    choice: Plan
    chosen: dict[str, MeasuredCandidate]
    recommendation: Recommendation
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def best_of_each_kind(self) -> list[MeasuredCandidate]:
        """The best of the candidates that differ in method alone.

        Trials of float blocks count only if they were timed.
        """
        best: dict[Hashable, MeasuredCandidate] = {}
        for row in self.candidates:
            kind = row.flavour, row.stream, row.reparametrization, *row.float_blocks
            is_trial = bool(row.float_blocks) and not row.latency_ms
            if not is_trial and (kind not in best or row.comparable_db > best[kind].comparable_db):
                best[kind] = row
        return list(best.values())
