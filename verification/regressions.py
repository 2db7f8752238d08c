"""One benchmark compared with an earlier one, of the same network on the same machine.

What is compared is how many times as fast an engine is as PyTorch, which was timed in turns with it. The
latency itself is not compared, because a machine that is busier today is slower for both. An engine has
changed if the intervals of its two ratios lie apart by more than `MARGIN`: 3.0 to 3.2 times before and 2.7
to 2.8 times now is a regression, since 2.8 is less than 0.95 x 3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from errors import UserError
from verification.refusal import MEASURED

MARGIN = 0.05
# What of a machine decides a ratio; a new minor version of Python, which is also recorded, does not.
_OF_MACHINE = ("cpu", "instruction_sets", "cores", "gpus")
_OF_OPTIONS = ("threads", "cuda_graphs")
Document = Mapping[str, Any]
_Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Change:
    """An engine whose ratio over PyTorch is another than before.

    Attributes:
        before: the ratio of the earlier benchmark, and `before_interval` its limits.
        now: the ratio of this benchmark, and `now_interval` its limits.
    """

    engine: str
    precision: str
    device: str
    batch: int
    before: float
    before_interval: list[float]
    now: float
    now_interval: list[float]

    @property
    def words(self) -> str:
        """The change as one line."""
        return (
            f"{self.engine} {self.precision} on {self.device}, batch {self.batch}: "
            f"{_words(self.before, self.before_interval)} before, {_words(self.now, self.now_interval)} now"
        )


@dataclass(frozen=True)
class Changes:
    """What a comparison of two benchmarks comes to.

    Attributes:
        same: how many rows lie within the margin or the noise.
        missing_now: rows of the earlier benchmark that nobody asked for now, in words.
        missing_before: rows that the earlier benchmark does not have, in words.
        stopped: rows of the earlier benchmark whose engine was asked for now and did not run, in words.
    """

    regressions: tuple[Change, ...]
    improvements: tuple[Change, ...]
    same: int
    missing_now: tuple[str, ...]
    missing_before: tuple[str, ...]
    margin: float = MARGIN
    stopped: tuple[str, ...] = ()


def require_comparable(before: Document, now: Document, file: str) -> None:
    """Refuse to compare ratios of another network, another machine or other options of the runtimes.

    Args:
        before: the earlier document; see `workflow.benchmark_file`.
        now: the same fields of this benchmark; it needs no rows.
        file: of the earlier document, for the error.

    Raises:
        UserError: the two are not comparable; names what differs.
    """
    pairs = [
        *((field, before["machine"].get(field), now["machine"].get(field)) for field in _OF_MACHINE),
        ("network", before["network"], now["network"]),
        *((name, before["options"].get(name), now["options"][name]) for name in _OF_OPTIONS),
    ]
    for what, old, new in pairs:
        if old != new:
            raise UserError(
                f"{file} is of other {what.replace('_', ' ')} ({_plain(old)}) than this ({_plain(new)})",
                "compare with a benchmark of this network on this machine, with the same options",
            )


def changes_between(before: Document, now: Document) -> Changes:
    """Compare two benchmarks row by row; the original, whose ratio is 1 by definition, is left out."""
    old, new = _ratios(before), _ratios(now)
    gone = [key for key in old if key not in new]
    stopped = [key for key in gone if _is_refused(key, now)]
    changes = [_change(key, old[key], new[key]) for key in new if key in old]
    regressions = tuple(
        change for change in changes if _is_above(change.before_interval, change.now_interval)
    )
    improvements = tuple(
        change for change in changes if _is_above(change.now_interval, change.before_interval)
    )
    return Changes(
        regressions,
        improvements,
        len(changes) - len(regressions) - len(improvements),
        tuple(_name(key) for key in gone if key not in stopped),
        tuple(_name(key) for key in new if key not in old),
        stopped=tuple(_name(key) for key in stopped),
    )


def _ratios(document: Document) -> dict[_Key, Mapping[str, Any]]:
    return {
        (row["engine"], row["precision"], row["device"], row["batch"]): row
        for row in document["rows"]
        if row["status"] == MEASURED
        and row["speedup"] is not None
        and row["over"] != f"{row['engine']} {row['precision']} on {row['device']}"
    }


def _is_refused(key: _Key, document: Document) -> bool:
    """Whether a document says of an engine why it was not measured, at that batch size or at all of them."""
    *engine, batch = key
    return any(
        [row["engine"], row["precision"], row["device"]] == engine and row["batch"] in (batch, None)
        for row in document["rows"]
        if row["status"] != MEASURED
    )


def _change(key: _Key, before: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
    return Change(
        *key, before["speedup"], before["speedup_interval"], now["speedup"], now["speedup_interval"]
    )


def _is_above(higher: list[float], lower: list[float]) -> bool:
    """Whether the second interval lies below the first one by more than the margin."""
    return lower[1] < (1 - MARGIN) * higher[0]


def _name(key: _Key) -> str:
    engine, precision, device, batch = key
    return f"{engine} {precision} on {device}, batch {batch}"


def _words(ratio: float, interval: list[float]) -> str:
    return f"{ratio:.2f}× ({interval[0]:.2f}–{interval[1]:.2f})"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(part) for part in value.values())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
