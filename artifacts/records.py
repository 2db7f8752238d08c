"""What a stage says of its work, and what the manifest keeps of each file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One stage's work: what it reads, how, and what it writes.

    Attributes:
        stage: name of the command that does it.
        options: everything besides the inputs that decides the result, as JSON values.
        inputs: names of files in the run directory.
        outputs: names of files in the run directory.
        packages: distributions whose version decides the result; a new version makes the outputs
            stale. Training names none: an update of torch is no reason to throw weights away.
    """

    stage: str
    options: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileRecord:
    """What the manifest holds of one file."""

    sha256: str
    size: int
    stage: str
    options: dict[str, Any]
    inputs: dict[str, str]
    versions: dict[str, str]
    written: str
