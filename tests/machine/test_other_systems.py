"""Everything can be imported on a system that lacks what only Unix has."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

IMPORT_EVERYTHING = """
import importlib, os, pathlib, signal, sys
for name in ("sysconf", "sched_getaffinity", "fork", "geteuid", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1"):
    delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "termios"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
root = pathlib.Path(sys.argv[1])
import cli
for package in sys.argv[2:]:
    for path in sorted((root / package).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if not module.endswith("__main__"):
            importlib.import_module(module)
"""


def test_modules_need_nothing_that_only_unix_has() -> None:
    """The libraries are loaded before: they have versions of their own for each system."""
    preload = "import torch, numpy, onnx, onnx_ir, onnxruntime, openvino, sklearn.datasets, filelock, typer\n"
    packages = ["artifacts", "machine", "data", "models", "graphs", "training", "analysis", "export"]
    packages += ["calibration", "runtimes", "verification", "reporting", "workflow", "commands"]
    command = [sys.executable, "-c", preload + IMPORT_EVERYTHING, ROOT, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
