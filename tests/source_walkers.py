"""Syntax trees of the project, and what the code in them imports, calls and raises."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

SHARED = {"artifacts", "errors", "progress", "vocabulary"}
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
    "graphs": {"machine", *SHARED},
    "training": {"models", "data", "machine", *SHARED},
    "analysis": {"models", "data", "plots", *SHARED},
    "runtimes": {"models", "graphs", "data", "machine", *SHARED},
    "export": {"models", "graphs", "runtimes", "data", *SHARED},
    "calibration": {"runtimes", "graphs", "data", "machine", *SHARED},
    "verification": {"runtimes", "graphs", "data", "machine", *SHARED},
    "bundling": {
        *("verification", "runtimes", "graphs", "data", "machine"),
        *("errors", "vocabulary", "artifacts"),
    },
    "reporting": {
        "verification",
        "calibration",
        "runtimes",
        "graphs",
        "models",
        "machine",
        "plots",
        *SHARED,
    },
    "workflow": {
        *("training", "analysis", "export", "calibration", "verification", "bundling", "reporting"),
        *("runtimes", "graphs", "models", "data", "machine", *SHARED),
    },
    "commands": {
        *("workflow", "training", "analysis", "calibration", "bundling", "reporting"),
        *("runtimes", "graphs", *SHARED),
    },
}
PROJECT = {*ALLOWED, "cli"}
# Beside what is installed; nothing imports them.
OUTSIDE = {"benchmarks", "launcher", "tests", "tools"}

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
