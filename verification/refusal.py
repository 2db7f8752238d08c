"""An engine that was not measured, as a row that says why."""

from dataclasses import asdict, dataclass
from typing import Any

from errors import CheckFailed, UserError

MEASURED = "measured"
NOT_RUN = "not run"
FAILED = "failed"


@dataclass(frozen=True)
class Refusal:
    """Why an engine was not measured.

    Attributes:
        engine: the name of the engine.
        precision: the precision that it was to compute in.
        device: the device that it was to run on.
        batch: the batch size that it refused; None if it refused all of them.
        status: `FAILED` if a check found that the artifact is not what it should be, otherwise `NOT_RUN`.
        reason: what is wrong or missing.
        fix: what the user can do about it.
    """

    engine: str
    precision: str
    device: str
    batch: int | None
    status: str
    reason: str
    fix: str

    @property
    def error(self) -> UserError:
        """The error that a command which can do nothing else ends with."""
        kind = CheckFailed if self.status == FAILED else UserError
        return kind(self.reason, self.fix)

    def to_row(self) -> dict[str, Any]:
        """The fields as a row of a table of results."""
        return asdict(self)


def refusal_of(
    error: UserError, engine: str, precision: str, device: str, batch: int | None = None
) -> Refusal:
    """The row for an error that an engine was refused with."""
    status = FAILED if isinstance(error, CheckFailed) else NOT_RUN
    return Refusal(engine, str(precision), str(device), batch, status, error.problem, error.fix)
