"""Whether the code of a stage has changed since its revision was last raised.

    python tools/stage_revisions.py                        say which stages' sources have changed
    python tools/stage_revisions.py --accept               write the lock after revisions were raised
    python tools/stage_revisions.py --accept --same-output quantize export
                                                           the same for stages whose files stay as they were

The sources of a stage are its module and what that module imports of the project, directly or not, apart from
what decides no file's content (`PASSED_OVER`). They are hashed as syntax trees without docstrings, so that
another wording changes nothing. `tests/artifacts/stage_revisions.json` keeps revision and hash of each stage,
and a test compares them with the code.
"""

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "tests/artifacts/stage_revisions.json"
# How a stage reports, how files are named, locked and recorded, and what a machine is called.
PASSED_OVER = ("errors", "progress", "artifacts", "machine", "plots")


@dataclass(frozen=True)
class Sources:
    """A stage's revision, and the sha256 of its sources."""

    revision: int
    sha256: str


def sources_now(root: Path, stages: Mapping[str, Any]) -> dict[str, Sources]:
    """Revision and sources of each stage as they are.

    Args:
        root: the folder that the project's modules lie in.
        stages: by name; each has `revision` and `module`.
    """
    return {
        name: Sources(stage.revision, _hash_of(root, modules_of(root, stage.module)))
        for name, stage in stages.items()
    }


def changed(before: Mapping[str, Sources], now: Mapping[str, Sources]) -> list[str]:
    """Stages whose sources have changed, or that are new, while their revision is the one in the lock."""
    return [
        name
        for name, sources in now.items()
        if name in before
        and sources.sha256 != before[name].sha256
        and sources.revision == before[name].revision
    ]


def outdated(before: Mapping[str, Sources], now: Mapping[str, Sources]) -> list[str]:
    """Stages that the lock has to be written anew for, because they are new, gone or of another revision."""
    return sorted(
        name
        for name in {*before, *now}
        if name not in before or name not in now or before[name].revision != now[name].revision
    )


def modules_of(root: Path, module: str) -> set[str]:
    """A module and all that it imports of the project, directly or not."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name.split(".")[0] in PASSED_OVER:
            continue
        seen.add(name)
        waiting += _imported(root, name)
    return seen


def read_lock(path: Path = LOCK) -> dict[str, Sources]:
    """The lock; empty where there is none yet."""
    if not path.is_file():
        return {}
    return {name: Sources(**entry) for name, entry in json.loads(path.read_text()).items()}


def write_lock(sources: Mapping[str, Sources], path: Path = LOCK) -> None:
    """Write the lock."""
    text = json.dumps({name: vars(entry) for name, entry in sorted(sources.items())}, indent=1)
    path.write_text(text + "\n")


def _path_of(root: Path, module: str) -> Path | None:
    for path in (root / f"{module.replace('.', '/')}.py", root / module.replace(".", "/") / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(root: Path, module: str) -> set[str]:
    """Modules of the project that a module names in its imports, those inside functions included."""
    path = _path_of(root, module)
    assert path is not None, module
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            # An adapter in a table, "module:class".
            names.add(node.value.split(":")[0])
    return {name for name in names if name.replace(".", "_").isidentifier() and _path_of(root, name)}


def _hash_of(root: Path, modules: set[str]) -> str:
    digest = hashlib.sha256()
    for module in sorted(modules):
        path = _path_of(root, module)
        assert path is not None
        digest.update(f"{module}\n{_code_of(path.read_text())}\n".encode())
    return digest.hexdigest()


def _code_of(text: str) -> str:
    """The syntax tree without docstrings and line numbers."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def main(arguments: list[str]) -> int:
    """Compare, or write the lock; exit status 1 where a revision has to be raised first."""
    sys.path.insert(0, str(ROOT))
    from artifacts.stages import STAGES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="write the lock")
    parser.add_argument("--same-output", nargs="+", default=[], metavar="STAGE", help="or `all`")
    options = parser.parse_args(arguments)
    before, now = read_lock(), sources_now(ROOT, STAGES)
    excused = set(now) if options.same_output == ["all"] else set(options.same_output)
    unexplained = [name for name in changed(before, now) if name not in excused]
    for name in unexplained:
        print(f"{name}: the sources have changed, and the revision in artifacts/stages.py has not")
    if options.accept and not unexplained:
        write_lock(now)
        print(f"{LOCK.relative_to(ROOT)} is up to date")
    return int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
