"""`make edge`: install what edge/ needs, build it with every compiler and sanitizer, and test it.

    python -m tools.edge.make [--work build/edge] [--only STEP …]

The steps run in order, each prints one line, and the first one that fails ends the run with status 1.
What a step needs and cannot get is an error that says how to get it. One thing is skipped, and its line says
so: without QEMU 10 or later the library for aarch64 is compiled and not run.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from errors import UserError
from tools.edge.aarch64 import check_aarch64
from tools.edge.builds import BUILDS, Build, build_and_test
from tools.edge.bundle import make_bundle
from tools.edge.consumers import check_consumers
from tools.edge.dependencies import bring
from tools.edge.documents import check_documents
from tools.edge.fixtures import write_fixtures
from tools.edge.fuzzing import check_mutants
from tools.edge.options import check_options
from tools.edge.overhead import check_overhead

# A step gets the work folder, and returns what its line says.
Step = Callable[[Path], str]


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/edge"), help="folder for everything made")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), help="steps that run; default: all")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    for name in arguments.only or STEPS:
        _run(name, work)
    print(f"edge: everything passed in {time.monotonic() - begin:.0f} s")


def _run(name: str, work: Path) -> None:
    begin = time.monotonic()
    try:
        said = STEPS[name](work)
    except UserError as error:
        sys.exit(f"edge: {name} failed: {error.problem}\n  fix: {error.fix}")
    print(f"edge: {name}: {said} ({time.monotonic() - begin:.0f} s)", flush=True)


def _dependencies(work: Path) -> str:
    return f"written to {bring(work)}"


def _fixtures(work: Path) -> str:
    write_fixtures(work / "bundle", work / "fixtures")
    return f"written to {work / 'fixtures'}"


def _build(build: Build) -> Step:
    return lambda work: build_and_test(build, work)


STEPS: dict[str, Step] = {
    "dependencies": _dependencies,
    "bundle": make_bundle,
    "fixtures": _fixtures,
    "options": check_options,
    **{build.name: _build(build) for build in BUILDS},
    "aarch64": check_aarch64,
    "consumers": check_consumers,
    "mutants": check_mutants,
    "overhead": check_overhead,
    "documents": check_documents,
}

if __name__ == "__main__":
    main()
