import re
from pathlib import Path

import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = (
    *("models", "data", "training", "analysis", "graphs"),
    *("export", "calibration", "runtimes", "verification"),
)


def test_the_tree_names_every_source_file_and_no_other() -> None:
    tree = README.split("## The tree")[1]
    named = set(re.findall(r"^ +([a-z0-9_]+\.py) ", tree, re.MULTILINE))
    folders = [ROOT, *(ROOT / name for name in (*PACKAGES, "benchmarks"))]
    present = {path.name for folder in folders for path in folder.glob("*.py")} - {"__init__.py"}
    assert named == present


def test_every_command_stands_in_the_readme() -> None:
    commands = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert commands == set(re.findall(r"python cli\.py ([a-z]+) ", README)) | {"doctor"}


def test_linked_files_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
