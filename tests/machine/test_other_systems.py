"""Everything can be imported, and commands run, on a system that lacks what only Unix has."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Libraries have versions of their own for each system, so they are loaded before Unix is taken away.
PRELOADED = """
import cli, filelock, numpy, onnx, onnx_ir, onnxruntime, openvino, rich.console, torch, typer
import sklearn.datasets
"""
WITHOUT_UNIX = """
import importlib, os, pathlib, signal, sys

removed = {
    os: "sysconf sched_getaffinity fork forkpty killpg getuid geteuid getgid getpgid setsid uname getloadavg "
        "mkfifo nice fchmod fchown chown pread pwrite sendfile wait3 WNOHANG O_NONBLOCK",
    signal: "SIGKILL SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE alarm setitimer pause sigwait",
}
for module, names in removed.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "grp", "pwd", "pty", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None

def hide(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(arguments[0])

sys.addaudithook(hide)
"""
IMPORT_EVERYTHING = """
for package in sys.argv[1:]:
    for path in sorted(pathlib.Path(package).rglob("*.py")):
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        importlib.import_module(module)
"""
RUN_COMMANDS = """
for arguments in (["--help"], ["doctor", "--json"]):
    sys.argv[1:] = arguments
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, arguments
"""


def test_modules_and_commands_need_nothing_that_only_unix_has() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "launcher"}
    code = PRELOADED + WITHOUT_UNIX + IMPORT_EVERYTHING + RUN_COMMANDS
    command = [sys.executable, "-c", code, *sorted(packages)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deploy" in done.stdout
    assert '"cores"' in done.stdout
