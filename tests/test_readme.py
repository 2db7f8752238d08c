"""The README is true: its tree, its commands, its links and its lines of Python."""

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

import cli
from workflow import deploy as deploy_module
from workflow.options import RunOptions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS_WITH_CODE = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/__init__.py")} - {"tests"}


def paths_in(tree: str) -> set[str]:
    """The Python files that a tree of indented names shows, with the folders they stand in."""
    folders: list[tuple[int, str]] = []
    paths = set()
    for line in tree.splitlines():
        if not (match := re.match(r"^( +)([\w.]+)(/?)(?: |$)", line)):
            continue
        indent, name, is_folder = len(match[1]), match[2], bool(match[3])
        folders = [(depth, folder) for depth, folder in folders if depth < indent]
        path = "/".join([*(folder for _, folder in folders), name])
        if is_folder:
            folders.append((indent, name))
        elif name.endswith(".py"):
            paths.add(path)
    return paths


def test_a_tree_is_read_with_its_folders() -> None:
    tree = """
    cli.py            commands
    a/
      one.py          first
      b/              a room
        two.py        second
      three.py        third
    c/
      one.py          another
    results/          tables
    """
    assert paths_in(tree) == {"cli.py", "a/one.py", "a/b/two.py", "a/three.py", "c/one.py"}


def test_the_tree_names_every_source_file_and_no_other() -> None:
    tree = README.split("## The tree")[1].split("\n## ")[0]
    files = [
        *ROOT.glob("*.py"),
        *(path for name in FOLDERS_WITH_CODE for path in (ROOT / name).rglob("*.py")),
    ]
    present = {str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py"}
    assert paths_in(tree) - {"launcher/__init__.py"} == present


def test_every_command_stands_in_the_readme() -> None:
    commands = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert commands == set(re.findall(r"python cli\.py ([a-z]+)\b", README))


def test_linked_files_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_lines_of_python_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the deployment itself, which other tests run."""
    line = SimpleNamespace(title="ort", precision="int8", drop=0.1)
    deployment = SimpleNamespace(passed=True, summary=SimpleNamespace(lines=[line]))
    asked = []
    monkeypatch.setattr(deploy_module, "deploy", lambda options: asked.append(options) or deployment)
    code = re.search(r"^(?: {4}from workflow\.deploy .*\n)(?: {4}.*\n|\n)*", README, re.MULTILINE)
    assert code is not None
    exec(textwrap.dedent(code[0]), {})
    assert asked == [RunOptions(depth=20)]
    assert capsys.readouterr().out == "True ('ort', 'int8', 0.1)\n"
