"""The bundle that the tests of edge/ open: a ResNet-20 trained on digits, verified in both runtimes."""

import sys
from pathlib import Path

from tools.edge.steps import ROOT, run

# scikit-learn brings the digits, so nothing is fetched.
_NETWORK = ("--dataset", "digits", "--depth", "20", "--variant", "preact")
_ARTIFACTS = ("--engine", "openvino", "--engine", "ort", "--precision", "fp32", "--precision", "int8")


def make_bundle(work: Path) -> str:
    """Train, export, calibrate, verify and bundle; what is up to date is not done again."""
    where = (*_NETWORK, "--run-dir", str(work / "run"), "--quiet")
    for command in (
        ("train", *where),
        ("export", *where),
        ("calibrate", *where),
        ("verify", *where, *_ARTIFACTS),
        ("bundle", *where, *_ARTIFACTS, "--with-sdk", "--out", str(work / "bundle")),
    ):
        run([sys.executable, ROOT / "cli.py", *command], work / f"bundle.{command[0]}.log")
    return f"written to {work / 'bundle'}"
