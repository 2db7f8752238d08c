"""Whether a quantized plan can be expected to pay, from the bytes that its kernels move.

Networks as small as these are bounded by memory and by the number of kernels rather than by arithmetic, so
that a plan which moves more bytes than FP16's is expected to be slower, whatever its convolutions compute in.
It is an expectation: nothing is timed.
"""

from dataclasses import dataclass

from runtimes.tensorrt.engine_card import EngineCard

# The batch size that throughput is measured at.
EXPECTED_AT = 32


@dataclass(frozen=True)
class Moved:
    """The bytes that a plan moves in one run.

    Attributes:
        precision: the precision of the plan.
        megabytes: read and written by all of its kernels, in 10^6 bytes.
        batch: number of images.
    """

    precision: str
    megabytes: float
    batch: int


@dataclass(frozen=True)
class Expectation:
    """Whether a plan is expected to pay, and why, in one sentence."""

    pays: bool
    sentence: str


def moved_by(card: EngineCard) -> Moved | None:
    """Return what a plan moves at batch `EXPECTED_AT`, or None where the sidecar does not tell."""
    for entry in card.traffic:
        if entry.batch == EXPECTED_AT:
            return Moved(card.precision, entry.moved_mb, entry.batch)
    return None


def expectation_from_bytes(quantized: Moved, half: Moved) -> Expectation:
    """Compare a quantized plan with the FP16 plan of the same network for the same GPU.

    Raises:
        ValueError: the two were added up for different numbers of images.
    """
    if quantized.batch != half.batch:
        raise ValueError(f"batch sizes {quantized.batch} and {half.batch} cannot be compared")
    pays = quantized.megabytes < half.megabytes
    words = "expected to pay" if pays else "not expected to pay"
    sentence = (
        f"{words}: {_name(quantized)} moves {quantized.megabytes:.1f} MB, "
        f"{_name(half)} {half.megabytes:.1f} MB at batch {half.batch}"
    )
    return Expectation(pays, sentence)


def _name(moved: Moved) -> str:
    return moved.precision.upper()
