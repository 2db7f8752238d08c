"""A stage whose code has changed must not call its old files up to date."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from artifacts.stages import STAGES
from tools.stage_revisions import (
    ROOT,
    Sources,
    changed,
    modules_of,
    outdated,
    read_lock,
    sources_now,
    write_lock,
)

WHAT_TO_DO = (
    "Raise the revision in artifacts/stages.py of each stage whose files come out otherwise than before, and "
    "run `python tools/stage_revisions.py --accept`. For stages that write the same files as before, name "
    "them: `python tools/stage_revisions.py --accept --same-output STAGE …`."
)


def test_no_stage_has_changed_behind_its_revision() -> None:
    before, now = read_lock(), sources_now(ROOT, STAGES)
    assert changed(before, now) == [], WHAT_TO_DO
    assert outdated(before, now) == [], WHAT_TO_DO


def test_the_sources_of_a_stage_are_what_decides_its_files() -> None:
    quantize = modules_of(ROOT, STAGES["quantize"].module)
    assert {"calibration.quantizing.qdq", "calibration.quantizing.scales", "graphs.onnx_file"} <= quantize
    assert not {name for name in quantize if name.split(".")[0] in ("commands", "workflow", "errors")}
    verify = modules_of(ROOT, STAGES["verify"].module)
    assert {"runtimes.ort_runtime", "runtimes.openvino_runtime", "graphs.saturation"} <= verify


@dataclass(frozen=True)
class MadeUp:
    revision: int
    module: str


STAGE = {"bake": MadeUp(1, "kitchen.bake")}


BAKE = '''"""Bake."""
import json

from kitchen.oven import heat


def bake():
    """Do it."""
    return heat()
'''
OVEN = """from kitchen import recipes
ADAPTER = 'kitchen.fan:Fan'


def heat():
    return recipes.DEGREES
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "__init__.py": "",
        "bake.py": BAKE,
        "oven.py": OVEN,
        "recipes.py": "DEGREES = 180\n",
        "fan.py": "class Fan:\n    speed = 1\n",
        "bell.py": "RING = 1\n",
    }
    (tmp_path / "kitchen").mkdir()
    for name, text in files.items():
        (tmp_path / "kitchen" / name).write_text(text)
    return tmp_path


def rewrite(project: Path, file: str, old: str, new: str) -> None:
    path = project / "kitchen" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("bake.py", "return heat()", "return 2 * heat()"),
        ("oven.py", "recipes.DEGREES", "recipes.DEGREES + 1"),
        ("recipes.py", "180", "181"),
        ("fan.py", "speed = 1", "speed = 2"),
    ],
)
def test_changed_code_is_noticed_at_any_distance(project: Path, file: str, old: str, new: str) -> None:
    before = sources_now(project, STAGE)
    rewrite(project, file, old, new)
    now = sources_now(project, STAGE)
    assert changed(before, now) == ["bake"]
    raised = {"bake": Sources(2, now["bake"].sha256)}
    assert changed(before, raised) == []
    assert outdated(before, raised) == ["bake"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("bake.py", '"""Bake."""', '"""Bake a cake."""'),
        ("bake.py", '    """Do it."""\n', ""),
        ("recipes.py", "DEGREES = 180", "# Of a small oven.\nDEGREES  =  180"),
        ("bell.py", "RING = 1", "RING = 2"),
    ],
)
def test_words_and_strangers_change_nothing(project: Path, file: str, old: str, new: str) -> None:
    before = sources_now(project, STAGE)
    rewrite(project, file, old, new)
    assert sources_now(project, STAGE) == before


def test_a_new_and_a_lost_stage_outdate_the_lock() -> None:
    one = {"bake": Sources(1, "a")}
    assert outdated(one, {}) == outdated({}, one) == ["bake"]
    assert outdated(one, {"bake": Sources(1, "b")}) == []


def test_the_lock_comes_back(tmp_path: Path) -> None:
    sources = {"bake": Sources(3, "ab"), "cool": Sources(1, "cd")}
    write_lock(sources, tmp_path / "lock.json")
    assert read_lock(tmp_path / "lock.json") == sources
    assert read_lock(tmp_path / "none.json") == {}
