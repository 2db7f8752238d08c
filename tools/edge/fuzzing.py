"""Mutated bundles and pictures under AddressSanitizer.

The 10,000 mutants of each kind are a test of CTest, which runs in every build and the same in every run. Here
libFuzzer searches on from the fixtures for half a minute for each target, guided by what the mutants reach.
"""

from pathlib import Path

from tools.edge.builds import SANITIZED
from tools.edge.steps import run

_SECONDS = 30
# A decoder may take 2 s for one input and 1 GB: the largest picture that is decoded has 89 million pixels.
_LIMITS = ("-timeout=20", "-rss_limit_mb=3000", "-malloc_limit_mb=1500", "-print_final_stats=1")


def check_mutants(work: Path) -> str:
    """Run both fuzzers; a crash, a leak or a hang is a failure, and its input lies in the work folder."""
    corpus = {"picture_fuzzer": work / "fixtures/pictures", "manifest_fuzzer": work / "bundle"}
    said = []
    for name, seeds in corpus.items():
        found = work / f"{name}.corpus"
        found.mkdir(exist_ok=True)
        program = work / SANITIZED.name / "fuzz" / name
        limits = [*_LIMITS, f"-max_total_time={_SECONDS}", f"-artifact_prefix={work}/{name}."]
        printed = run([program, *limits, found, seeds], work / f"{name}.log", SANITIZED.environment)
        said.append(f"{name} {_executions(printed)} inputs")
    return ", ".join(said)


def _executions(printed: str) -> str:
    (line,) = (line for line in printed.splitlines() if "stat::number_of_executed_units" in line)
    return line.split()[-1]
