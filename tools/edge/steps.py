"""How a step of `make edge` runs programs: the output is kept in a file, and shown when a program fails."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from errors import CheckFailed

ROOT = Path(__file__).resolve().parents[2]
_LINES_SHOWN = 60


def run(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> str:
    """Run a program and return what it printed, both streams in one.

    Args:
        command: the program and its arguments.
        log: where the output is kept; the folder of the log has to exist.
        environment: variables to set beside those of this process.
        folder: the working directory.

    Raises:
        CheckFailed: the program failed; the error has the end of its output.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=folder, env=os.environ | dict(environment or {}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    log.write_text(done.stdout)
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-_LINES_SHOWN:])
        raise CheckFailed(
            f"`{' '.join(words)}` failed with status {done.returncode}:\n{end}\n",
            f"the whole output is in {log}",
        )
    return done.stdout
