"""What the code may import and call, held by walking the syntax trees."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_SHARED = {"artifacts", "errors", "progress", "vocabulary"}
# Imports point one way: to what a package may import of the project. `cli` may import everything.
ALLOWED = {
    "errors": set(),
    "plots": set(),
    "progress": set(),
    "vocabulary": set(),
    "artifacts": {"errors"},
    "machine": {"artifacts", "errors"},
    "data": {"errors", "progress", "vocabulary"},
    "models": {"artifacts", "errors", "vocabulary"},
    "graphs": {"machine", *_SHARED},
    "training": {"models", "data", "machine", *_SHARED},
    "analysis": {"models", "data", "plots", *_SHARED},
    "runtimes": {"models", "graphs", "data", "machine", *_SHARED},
    "export": {"models", "graphs", "runtimes", "data", *_SHARED},
    "calibration": {"runtimes", "graphs", "data", "machine", *_SHARED},
    "verification": {"runtimes", "graphs", "data", "machine", *_SHARED},
    "reporting": {
        "verification",
        "calibration",
        "runtimes",
        "graphs",
        "models",
        "machine",
        "plots",
        *_SHARED,
    },
    "workflow": {
        *("training", "analysis", "export", "calibration", "verification", "reporting"),
        *("runtimes", "graphs", "models", "data", "machine", *_SHARED),
    },
    "commands": {
        *("workflow", "training", "analysis", "calibration", "reporting"),
        *("runtimes", "graphs", *_SHARED),
    },
}
PROJECT = {*ALLOWED, "cli"}
# Beside what is installed; nothing imports them.
OUTSIDE = {"benchmarks", "launcher", "tests", "tools"}

HEAVY = [
    "torch",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "numpy",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
    "matplotlib",
]
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
LOADERS = {"torch.load", "joblib.load", "pandas.read_pickle"}
EXITS = {
    "print",
    "exit",
    "quit",
    "sys.exit",
    "os._exit",
    "os.abort",
    "typer.Exit",
    "typer.echo",
    "SystemExit",
}


def sources(name: str) -> list[Path]:
    package = ROOT / name
    return sorted(package.rglob("*.py")) if package.is_dir() else [ROOT / f"{name}.py"]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """Line, module and imported name of every import, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, "." * node.level + (node.module or ""), alias.name


def names_used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of what is called or raised, with the names imports gave it undone."""
    real = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            real |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            real |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        target = (
            node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
        )
        if isinstance(target, ast.Name | ast.Attribute):
            first, *rest = ast.unparse(target).split(".")
            yield target.lineno, ".".join([real.get(first, first), *rest])


def forbidden_imports(tree: ast.AST, name: str) -> list[str]:
    """Project imports that `name` may not have; relative ones are not used here at all."""
    found = []
    for line, module, _ in imports(tree):
        top = module.split(".")[0]
        if module.startswith(".") or (top in PROJECT | OUTSIDE and top not in {name, *ALLOWED[name]}):
            found.append(f"line {line}: {module}")
    return found


def unpickling(tree: ast.AST) -> list[str]:
    found = [f"line {n}: {module}" for n, module, _ in imports(tree) if module.split(".")[0] in UNPICKLING]
    found += [f"line {n}: {name}" for n, name in names_used(tree) if name in LOADERS]
    keywords = (node for node in ast.walk(tree) if isinstance(node, ast.keyword))
    return found + [
        f"line {node.value.lineno}: allow_pickle" for node in keywords if node.arg == "allow_pickle"
    ]


def printing_or_exiting(tree: ast.AST) -> list[str]:
    found = [f"line {n}: {name}" for n, name in names_used(tree) if name in EXITS]
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return found + [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in attributes
        if ast.unparse(node) in ("sys.stdout", "sys.stderr")
    ]


def test_every_package_has_its_rule() -> None:
    """In the wheel every folder lies in `skipfold/app`, and the launcher is `skipfold` itself."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [path.parent.relative_to(ROOT) for path in ROOT.rglob("*/__init__.py")]
    packages = {".".join(folder.parts) for folder in folders if folder.parts[0] in PROJECT}
    modules = {path.stem for path in ROOT.glob("*.py")}
    assert set(listed["packages"]) == {
        "skipfold",
        "skipfold.app",
        *(f"skipfold.app.{name}" for name in packages),
    }
    assert listed["package-dir"] == {"skipfold": "launcher", "skipfold.app": "."}
    assert {name.split(".")[0] for name in packages} | modules == PROJECT


def test_rules_have_no_cycle() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED):
        free = [name for name in ALLOWED if name not in order and ALLOWED[name] <= set(order)]
        assert free, f"a cycle among {set(ALLOWED) - set(order)}"
        order += free


def module_graph(root: Path, packages: Iterable[str]) -> dict[str, set[str]]:
    """Which module imports which, imports inside functions and "module:class" strings of tables included."""
    files = [path for name in packages for path in sorted((root / name).rglob("*.py"))]
    files += [path for path in root.glob("*.py") if path.stem in packages]
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in files}
    modules = {name.removesuffix(".__init__") for name in names.values()}
    graph = {}
    for path, name in names.items():
        tree = tree_of(path)
        found = {module for _, module, _ in imports(tree)}
        found |= {f"{module}.{imported}" for _, module, imported in imports(tree) if imported}
        found |= {
            node.value.split(":")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and re.fullmatch(r"[\w.]+:\w+", str(node.value))
        }
        graph[name.removesuffix(".__init__")] = (found & modules) - {name.removesuffix(".__init__")}
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle; empty if there is none."""
    left = dict(graph)
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle_in(module_graph(ROOT, PROJECT)) == []


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


LONGEST = 300
REASON = "Longer than 300 lines because"


def files_that_are_too_long(root: Path) -> list[str]:
    """Python files of over 300 lines whose docstring gives no reason for that."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    texts = {name: (root / name).read_text() for name in names if (root / name).is_file()}
    return [
        name
        for name, text in texts.items()
        if text.count("\n") > LONGEST and REASON not in (ast.get_docstring(ast.parse(text)) or "")
    ]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_file_is_long_without_a_reason() -> None:
    assert files_that_are_too_long(ROOT) == []


def rows_of_table(text: str) -> dict[str, set[str]]:
    """The layering table of CONTRIBUTING.md: what each package may import."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}


def test_contributing_has_the_same_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## How the code is laid out")[1].split("\n## ")[0]
    assert rows_of_table(text) == ALLOWED


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_point_one_way(name: str) -> None:
    assert sources(name)
    found = {str(path.relative_to(ROOT)): forbidden_imports(tree_of(path), name) for path in sources(name)}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_runtimes_know_the_image_size_and_no_more_of_the_data() -> None:
    taken = {
        (module, name)
        for path in sources("runtimes")
        for _, module, name in imports(tree_of(path))
        if module.split(".")[0] == "data"
    }
    assert taken <= {("data.dataset", "IMAGE_SIZE")}


@pytest.mark.parametrize("path", [ROOT / "cli.py", *sources("commands")], ids=lambda path: path.stem)
def test_command_line_imports_the_stages_inside_its_commands(path: Path) -> None:
    """`workflow.options` and the table of engines are light, because they import no framework."""
    at_import = [node for node in tree_of(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {module for node in at_import for _, module, _ in imports(node)}
    of_stages = {module for module in modules if module.split(".")[0] in PROJECT - {*_SHARED, "commands"}}
    assert of_stages <= {"workflow.options", "runtimes.engines"}


@pytest.mark.parametrize("name", sorted(PROJECT | {"benchmarks", "tools"}))
def test_nothing_is_unpickled(name: str) -> None:
    found = {str(path.relative_to(ROOT)): unpickling(tree_of(path)) for path in sources(name)}
    assert {path: lines for path, lines in found.items() if lines} == {}


SILENT = sorted(set(ALLOWED) - {"commands"})


@pytest.mark.parametrize("name", SILENT)
def test_only_the_command_line_prints_and_exits(name: str) -> None:
    found = {str(path.relative_to(ROOT)): printing_or_exiting(tree_of(path)) for path in sources(name)}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("name", SILENT)
def test_only_the_command_line_knows_the_terminal(name: str) -> None:
    modules = {module.split(".")[0] for path in sources(name) for _, module, _ in imports(tree_of(path))}
    assert not modules & {"typer", "click", "rich", "argparse", "getpass"}


@pytest.mark.parametrize("name", sorted(PROJECT))
def test_only_cli_catches_the_user_error_of_a_stage(name: str) -> None:
    """`doctor` may, because there a missing part is the answer, and `deploy` names what it skips."""
    catching = {
        str(path.relative_to(ROOT))
        for path in sources(name)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and node.type and "UserError" in ast.unparse(node.type)
    }
    assert catching <= {"cli.py", "workflow/doctor.py", "workflow/deploy.py"}


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


_DRIVER = """
import json, runpy, sys
sys.argv = ["cli.py", *json.loads(sys.argv[1])]
try:
    runpy.run_path("cli.py", run_name="__main__")
except SystemExit as end:
    status = end.code or 0
json.dump({"status": status, "modules": sorted(sys.modules)}, sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["deploy", "--help"], ["--no-such-option"]]
)
def test_help_loads_no_framework(arguments: list[str]) -> None:
    command = [sys.executable, "-c", _DRIVER, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    left = json.loads(done.stderr.splitlines()[-1])
    assert left["status"] == (2 if arguments == ["--no-such-option"] else 0)
    assert not set(HEAVY) & set(left["modules"])


def test_help_starts_in_a_second_of_computing() -> None:
    """0.3 s of an idle machine; the time of the processor, since others may share it."""

    def seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < 1
