"""What the code may import and call, held by walking the syntax trees."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from source_walkers import (
    ALLOWED,
    PROJECT,
    ROOT,
    SHARED,
    circle_in,
    files_that_are_too_long,
    forbidden_imports,
    imports,
    module_graph,
    printing_or_exiting,
    sources,
    tree_of,
    unpickling,
)

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


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle_in(module_graph(ROOT, PROJECT)) == []


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
    of_stages = {module for module in modules if module.split(".")[0] in PROJECT - {*SHARED, "commands"}}
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
    """`doctor` may: a missing part is the answer. `deploy`, `benchmark` and `bundle` say what they skip."""
    catching = {
        str(path.relative_to(ROOT))
        for path in sources(name)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and node.type and "UserError" in ast.unparse(node.type)
    }
    benchmark = {"workflow/benchmark.py", "verification/contest.py"}
    workflow = {"workflow/doctor.py", "workflow/deploy.py", "workflow/bundle.py"}
    assert catching <= {"cli.py", *workflow, *benchmark}


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
