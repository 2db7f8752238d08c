"""What the tests of the command line have in common."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_DEPTH, Outcome
from PIL import Image

from artifacts.versions import version_of
from machine.gpu import gpus

Skipfold = Callable[..., Outcome]

ROOT = Path(__file__).parents[1]

DEPTH = ("--depth", TINY_DEPTH)

QUICK = ("--seconds", 0.02, "--threads", 1)

needs_rtx = pytest.mark.skipif(version_of("tensorrt-rtx") is None, reason="tensorrt-rtx is not installed")

without_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has an NVIDIA GPU")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file, the locks aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


def assert_refused(outcome: Outcome, *words: str, status: int = 2) -> None:
    """One line that says what is wrong, one that says how to fix it, and no traceback."""
    assert outcome.status == status, outcome
    lines = outcome.err.strip().splitlines()
    assert lines[-2].startswith("error: ") and lines[-1].startswith("  fix: "), outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, (word, outcome.err)


def run_in_process(*arguments: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "cli.py", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def write_picture_folders(folder: Path, count: int = 12) -> None:
    generator = np.random.default_rng(0)
    for name, brightness in (("dark", 40), ("light", 180)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            # Noise in blocks of 8 x 8: to calibrate on, neighbouring pixels must be alike.
            pixels = generator.integers(0, 60, (5, 6, 3)).repeat(8, 0).repeat(8, 1) + brightness
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
