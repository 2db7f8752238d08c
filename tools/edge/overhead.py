"""What skf_infer costs over the raw API of the runtime, at batch 1."""

import json
from pathlib import Path

from errors import CheckFailed
from tools.edge.builds import GCC
from tools.edge.steps import run

MOST_PERCENT = 2
_SECONDS = 2


def check_overhead(work: Path) -> str:
    """Measure each artifact that takes normalised images, and refuse an overhead above 2 %."""
    document = json.loads((work / "bundle/bundle.json").read_text())
    found = {
        artifact["id"]: _measured(work, artifact["id"])
        for artifact in document["artifacts"]
        if artifact["format"] == "onnx" and artifact["input"]["dtype"] == "float32"
    }
    if not found:
        raise CheckFailed("no artifact of the bundle takes normalised images", "make another bundle")
    return ", ".join(f"{name} {percent:+.1f} %" for name, percent in found.items())


def _measured(work: Path, artifact: str) -> float:
    program = work / GCC.name / "apps/skipfold-bench"
    limits = ["--threads", "1", "--seconds", str(_SECONDS), "--most-overhead", str(MOST_PERCENT)]
    printed = run(
        [program, work / "bundle", "--artifact", artifact, *limits], work / f"overhead.{artifact}.log"
    )
    return json.loads(printed)["overhead_percent"]["skf_infer"]
