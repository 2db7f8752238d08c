"""When a step counts as up to date, and when a file counts as fresh."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import GRAPH, WEIGHTS, made_run, publish

import artifacts.versions
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of


@pytest.fixture
def made(tmp_path: Path) -> RunDirectory:
    return made_run(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"opset": 18, "shape": (1, 3)}},
        {"options": {"opset": 17}},
        {"options": {"opset": 17, "shape": (1, 3), "more": None}},
        {"stage": "narrow"},
        {"inputs": ("weights", "log")},
        {"inputs": ()},
        {"inputs": ("never made",)},
        {"outputs": ("graph", "never made")},
        {"packages": ()},
        {"packages": ("numpy", "onnx")},
    ],
    ids=str,
)
def test_a_changed_step_is_not_current(made: RunDirectory, change: dict[str, object]) -> None:
    assert made.is_current(GRAPH)
    assert not made.is_current(replace(GRAPH, **change))


@pytest.mark.parametrize("name", ["weights", "graph"])
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_text("other"), lambda path: path.write_text("")],
    ids=["removed", "changed", "emptied"],
)
def test_a_damaged_input_or_output_is_not_current(
    made: RunDirectory, name: str, damage: Callable[[Path], object]
) -> None:
    damage(made.path / name)
    assert not made.is_intact(name)
    assert not made.is_current(GRAPH)
    assert not RunDirectory(made.path).is_current(GRAPH)


def test_an_input_made_anew_with_other_content_is_not_current(made: RunDirectory) -> None:
    publish(made, WEIGHTS, "second")
    assert made.is_current(WEIGHTS)
    assert not made.is_current(GRAPH)


def test_an_input_made_anew_with_the_same_content_is_current(made: RunDirectory) -> None:
    publish(made, WEIGHTS)
    assert made.is_current(GRAPH)


def test_a_file_is_fresh_while_the_recorded_inputs_are_those_it_was_made_from(made: RunDirectory) -> None:
    assert made.is_fresh("weights")
    assert made.is_fresh("graph")
    assert not made.is_fresh("never made")
    publish(made, WEIGHTS)
    assert made.is_fresh("graph"), "made anew with the same content"
    publish(made, WEIGHTS, "second")
    assert made.is_fresh("weights")
    assert not made.is_fresh("graph")
    publish(made, GRAPH)
    assert made.is_fresh("graph")
    made.discard("weights")
    assert not made.is_fresh("graph")


def test_a_new_version_of_a_package_is_not_current(
    made: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts.versions, "version_of", lambda package: "99.0")
    assert not made.is_current(GRAPH)
    assert made.is_current(WEIGHTS), "training names no packages"


def test_a_package_that_is_not_installed_has_no_version(tmp_path: Path) -> None:
    step = replace(WEIGHTS, packages=("no-such-distribution",))
    run = RunDirectory(tmp_path)
    publish(run, step)
    assert version_of("no-such-distribution") is None
    assert run.record("weights").versions == {}
    assert run.is_current(step)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None)
@given(options=st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_any_json_options_are_current_when_read_back(options: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        step = replace(WEIGHTS, options=options)
        publish(RunDirectory(Path(folder)), step)
        assert RunDirectory(Path(folder)).is_current(step)
        assert not RunDirectory(Path(folder)).is_current(replace(step, options={**options, "longer key": 1}))
