"""The options of `build` that decide what a plan is, beside its graph and its targets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from errors import UserError
from runtimes.tensorrt.package import Builder

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
# TensorRT's names of the levels that `--hardware-compatible` chooses.
COMPATIBILITY_LEVELS = {"ampere": "AMPERE_PLUS", "same": "SAME_COMPUTE_CAPABILITY"}


class Profile(NamedTuple):
    """The batch sizes that one optimization profile serves: the smallest, the best tuned and the largest."""

    smallest: int
    best: int
    largest: int

    def serves(self, batch: int) -> bool:
        """Whether the profile takes a batch of this size."""
        return self.smallest <= batch <= self.largest


# One profile for single images, because a profile that is tuned for 32 images serves one image badly.
DEFAULT_PROFILES = (Profile(1, 1, 1), Profile(1, 32, 128))


@dataclass(frozen=True)
class PlanOptions:
    """What decides a plan beside its graph and its targets.

    Attributes:
        tf32: let float32 convolutions round their operands to 10 bits of mantissa.
        optimization_level: from 0, built fast, to 5, searched long; None leaves the level to TensorRT.
        workspace: bytes of memory that a kernel may use for itself; None sets no limit.
        version_compatible: later versions of TensorRT can run the plan.
        hardware_compatible: a key of `COMPATIBILITY_LEVELS`: other GPUs can run the plan.
        refit: the weights can be replaced later.
        strip: the plan holds no weights; they have to be filled in before it runs.
        timing_cache: file that keeps how long kernels took, so that the next build measures less. The file
            decides nothing that the measurements would not decide, and so does not make a plan out of date.
    """

    profiles: tuple[Profile, ...] = DEFAULT_PROFILES
    tf32: bool = False
    optimization_level: int | None = None
    workspace: int | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    refit: bool = False
    strip: bool = False
    timing_cache: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """What makes a plan out of date when it changes, as JSON values."""
        fields = {
            name: value for name, value in vars(self).items() if name not in ("profiles", "timing_cache")
        }
        return fields | {"batches": [list(profile) for profile in self.profiles]}


def profile_serving(profiles: Sequence[Sequence[int]], batch: int) -> int | None:
    """Index of the profile that is tuned best for a batch size; None if no profile takes the batch.

    Args:
        profiles: smallest, best tuned and largest batch of each.
    """
    known = [Profile(*profile) for profile in profiles]
    serving = [index for index, profile in enumerate(known) if profile.serves(batch)]
    return min(serving, key=lambda index: abs(known[index].best - batch), default=None)


def profiles_from_texts(texts: Sequence[str]) -> tuple[Profile, ...]:
    """Read the values of `--batches`; the default profiles where there are none.

    Raises:
        UserError: a value is not MIN:OPT:MAX in ascending order, or stands there twice.
    """
    profiles = tuple(_profile(text) for text in texts)
    if len(set(profiles)) < len(profiles):
        raise UserError(
            f"--batches {' --batches '.join(texts)} names a profile twice", "name every profile once"
        )
    return profiles or DEFAULT_PROFILES


def bytes_from_text(text: str) -> int:
    """Read the value of `--workspace`: a number of bytes, or one with K, M or G behind it.

    Raises:
        UserError: the value is of another form, or is 0.
    """
    match = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not size:
        raise UserError(
            f"--workspace must be a number of bytes over 0, got '{text}'", "write for instance 512M or 2G"
        )
    return size


def require_supported(options: PlanOptions, builder: Builder, have_gpu: bool) -> None:
    """Refuse the options that a builder does not have, before anything is built.

    Raises:
        UserError: the option, and why the builder does not have it.
    """
    if builder.ahead_of_time:
        _require_supported_by_rtx(options, have_gpu)
    if options.strip and options.refit:
        raise UserError(
            "--strip makes a plan whose weights can be filled in, and --refit asks for that again",
            "leave --refit out",
        )


def _require_supported_by_rtx(options: PlanOptions, have_gpu: bool) -> None:
    refusals = {
        "--timing-cache": (
            options.timing_cache is not None,
            "keeps no timings, because it chooses kernels on the GPU that runs the plan",
        ),
        "--version-compatible": (
            options.version_compatible,
            "comes without the lean runtime that such plans are run by",
        ),
        "--hardware-compatible": (
            options.hardware_compatible is not None,
            "has no such levels; its plans run on every GPU that --target names",
        ),
        "--optimization-level": (
            options.optimization_level is not None,
            "writes the same plan at every level",
        ),
        "--refit": (options.refit and not have_gpu, "needs a GPU to build a plan for refitting"),
        "--strip": (options.strip and not have_gpu, "needs a GPU to build a plan without weights"),
    }
    for option, (is_given, reason) in refusals.items():
        if is_given:
            raise UserError(f"{option} cannot be used: TensorRT for RTX {reason}", f"leave {option} out")


def _profile(text: str) -> Profile:
    parts = text.split(":")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(parts) != 3 or len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise UserError(
            f"--batches must be MIN:OPT:MAX with 1 ≤ MIN ≤ OPT ≤ MAX, got '{text}'",
            "write for instance --batches 1:1:1 --batches 2:32:128",
        )
    return Profile(*numbers)
