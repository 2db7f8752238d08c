"""What a stage says of its work, and what the manifest keeps of each file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from artifacts.stages import STAGES


@dataclass(frozen=True)
class Step:
    """One stage's work: what it reads, how, and what it writes.

    Attributes:
        stage: name of one of `artifacts.stages.STAGES`.
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

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise KeyError(f"{self.stage} is no stage of artifacts.stages")

    @property
    def revision(self) -> int:
        """Of the stage's code."""
        return STAGES[self.stage].revision


@dataclass(frozen=True)
class FileRecord:
    """What the manifest holds of one file.

    Attributes:
        revision: of the code that made the file; 0 for the files of earlier versions, which recorded none.
    """

    sha256: str
    size: int
    stage: str
    options: dict[str, Any]
    inputs: dict[str, str]
    versions: dict[str, str]
    written: str
    revision: int = 0

    @property
    def is_of_this_code(self) -> bool:
        """Whether the stage's code is still of the revision that made the file."""
        return self.stage in STAGES and self.revision == STAGES[self.stage].revision

    @property
    def command(self) -> str:
        """The command that makes the file again."""
        return STAGES[self.stage].command if self.stage in STAGES else self.stage
