"""The engines of some runs, as Markdown: their kernels, the bytes that they move, and whether they may pay.

    python cli.py build --depth 164 --precision fp16 --precision int8 --precision fp8 --target sm89
    python benchmarks/engines.py runs/digits-preact-164

The script needs no GPU. It prints what `build` read from each plan and wrote beside it, and how small zstd
makes the plan; only the seconds of a build are of the machine that the engine was built on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.run_directory import RunDirectory
from benchmarks.markdown import machine_lines, markdown_table
from bundling.writing import ZSTD_LEVEL
from errors import UserError
from runtimes.tensorrt.engine_card import EngineCard, card_of_engine
from runtimes.tensorrt.expectation import Moved, expectation_from_bytes, moved_by
from runtimes.tensorrt.targets import number_of
from vocabulary import Precision

COLUMNS = [
    "network", "precision", "targets", "build s", "plan MB", "zstd MB", "kernels", "MB b1", "MB b32",
    "of FP16's", "convolutions", "verdict",
]  # fmt: skip


def main() -> None:
    """Print one table of the engines of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+")
    rows = [row for path in parser.parse_args().run for row in rows_of(RunDirectory(path))]
    print(f"{machine_lines()}\n\n{markdown_table(COLUMNS, rows)}")


def rows_of(run: RunDirectory) -> list[list[str]]:
    """Return a row for each engine of a run, FP16 first among the engines for the same targets.

    Raises:
        UserError: the run holds no engine that is up to date.
    """
    names = [name for name in run.recorded("engines/") if name.endswith(".engine") and run.is_fresh(name)]
    if not names:
        raise UserError(f"{run.path} holds no engine that is up to date", "build the engines: cli.py build")
    engines = [(card_of_engine(run.verified(name)), run.path / name) for name in names]
    half = {(card.builder, card.targets): card for card, _ in engines if card.precision is Precision.fp16}
    return [
        _row(card, compressed_size(plan), half.get((card.builder, card.targets)))
        for card, plan in sorted(engines, key=lambda engine: _place(engine[0]))
    ]


def compressed_size(plan: Path) -> int:
    """Return the bytes of a plan file behind zstd, which is how an archive carries the plan."""
    import zstandard

    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(plan.read_bytes()))


def _place(card: EngineCard) -> tuple[list[int], int]:
    """Where the row of an engine stands: by targets, then by precision in the order of `Precision`."""
    return [number_of(target) for target in card.targets], [*Precision].index(card.precision)


def _row(card: EngineCard, compressed: int, half: EngineCard | None) -> list[str]:
    network = card.graph
    kernels = {entry.batch: str(entry.kernels) for entry in card.traffic}
    moved = {entry.batch: f"{entry.moved_mb:.1f}" for entry in card.traffic}
    ratio, verdict = _against(moved_by(card), moved_by(half) if half else None)
    return [
        f"{network.variant} ResNet-{network.depth}",
        card.precision,
        ", ".join(card.targets) or "default",
        f"{card.seconds:.1f}",
        f"{card.size / 1e6:.2f}",
        f"{compressed / 1e6:.2f}",
        kernels.get(32, "–"),
        moved.get(1, "–"),
        moved.get(32, "–"),
        ratio,
        card.convolution_words.removesuffix(" convolutions"),
        verdict if card.precision.is_quantized else "–",
    ]


def _against(own: Moved | None, half: Moved | None) -> tuple[str, str]:
    """The share of FP16's bytes, and whether the plan is expected to pay; dashes where one is not known."""
    if own is None or half is None:
        return "–", "–"
    pays = expectation_from_bytes(own, half).pays
    return f"{own.megabytes / half.megabytes:.2f}", "expected to pay" if pays else "not expected to pay"


if __name__ == "__main__":
    main()
