"""The walkers of syntax trees find what they are for, and pass over the rest."""

import ast
from pathlib import Path

import pytest
from source_walkers import circle_in, forbidden_imports, module_graph, printing_or_exiting, unpickling


@pytest.mark.parametrize(
    "late",
    ["from b import y", "def f():\n    import b", "if TYPE_CHECKING:\n    from b import y", "A = 'b:C'"],
)
def test_circles_are_found(tmp_path: Path, late: str) -> None:
    (tmp_path / "a.py").write_text(late)
    (tmp_path / "b.py").write_text("import c")
    (tmp_path / "c.py").write_text("x = 1")
    (tmp_path / "d.py").write_text("import a")
    names = ["a", "b", "c", "d"]
    assert circle_in(module_graph(tmp_path, names)) == []
    (tmp_path / "c.py").write_text("import a")
    assert {"a", "b", "c"} <= set(circle_in(module_graph(tmp_path, names)))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("errors", "import artifacts"),
        ("data", "from models.config import VARIANTS"),
        ("graphs", "import runtimes.timing as m"),
        ("models", "def late():\n    from training import loop"),
        ("runtimes", "if TYPE_CHECKING:\n    from calibration.quantizing.qdq import FILES"),
        ("analysis", "from training.checkpoints import require_same_network"),
        ("verification", "from training.loop import device_named"),
        ("calibration", "import cli"),
        ("models", "import benchmarks.peers"),
        ("export", "from . import fold"),
        ("export", "from ..calibration import qdq"),
    ],
)
def test_walker_finds_a_forbidden_import(name: str, code: str) -> None:
    assert len(forbidden_imports(ast.parse(code), name)) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("export", "from export.fold import Folded"),
        ("verification", "import numpy as np\nfrom machine.description import this_machine"),
        ("data", "import datasets_of_others"),
        ("errors", "import cli_helpers"),
    ],
)
def test_walker_lets_pass_what_is_allowed(name: str, code: str) -> None:
    assert forbidden_imports(ast.parse(code), name) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill as d",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path)",
        "from torch import load\nload(path)",
        "from torch import load as read\nread(path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_walker_finds_unpickling(code: str) -> None:
    assert unpickling(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["import onnx\nonnx.load(path)", "from safetensors.torch import load\nload(b)"]
)
def test_walker_lets_pass_other_loading(code: str) -> None:
    assert unpickling(ast.parse(code)) == []


@pytest.mark.parametrize(
    "code",
    [
        "print('x')",
        "import sys\nsys.exit(1)",
        "from sys import exit as leave\nleave(1)",
        "raise SystemExit",
        "raise SystemExit(2)",
        "import typer\nraise typer.Exit(1)",
        "from typer import Exit\nraise Exit(1)",
        "import sys\nsys.stdout.write('x')",
        "import sys\nprogress(file=sys.stderr)",
        "import os\nos._exit(0)",
    ],
)
def test_walker_finds_printing_and_exiting(code: str) -> None:
    assert printing_or_exiting(ast.parse(code))


def test_walker_lets_pass_methods_of_the_same_names() -> None:
    code = "self.print()\nrun.exit()\nsys.executable\ncontext.__exit__(None)"
    assert printing_or_exiting(ast.parse(code)) == []
