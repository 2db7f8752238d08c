"""Dataclasses through JSON and back, and everything that is not one."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from artifacts.json_codec import from_json, from_text, to_json, to_text
from vocabulary import Precision


@dataclass(frozen=True)
class Inner:
    name: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    precision: Precision
    rate: float
    inner: Inner
    more: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = field(default_factory=dict)
    by_batch: dict[int, float] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    note: str | None = None


FULL = Outer(
    Precision.int8,
    0.5,
    Inner("a", (1, 2)),
    (Inner("b"), Inner("c", (3,))),
    {"d": Inner("d")},
    {1: 0.5, 32: 2.0},
    {"free": [1, {"x": None}]},
    "a note",
)


@pytest.mark.parametrize("value", [FULL, Outer(Precision.fp32, 1.0, Inner("x"))])
def test_text_gives_everything_back(value: Outer) -> None:
    assert from_text(Outer, to_text(value)) == value
    assert from_json(Outer, to_json(value)) == value


def test_json_is_what_a_file_gives_back() -> None:
    document = to_json(FULL)
    assert document["precision"] == "int8" and type(document["precision"]) is str
    assert document["inner"] == {"name": "a", "shape": [1, 2]}
    assert document["by_batch"] == {"1": 0.5, "32": 2.0}


def test_infinity_comes_back() -> None:
    value = Outer(Precision.fp32, math.inf, Inner("x"))
    assert from_text(Outer, to_text(value)) == value


@pytest.mark.parametrize(
    ("path", "entry", "message"),
    [
        (("precision",), "int4", r"precision"),
        (("rate",), "fast", r"\$\.rate"),
        (("rate",), None, r"\$\.rate"),
        (("inner", "shape"), [1, "two"], r"\$\.inner\.shape"),
        (("inner", "shape"), [1.5], r"\$\.inner\.shape"),
        (("inner", "shape"), [True], r"\$\.inner\.shape"),
        (("inner", "color"), "red", r"unknown field inner\.color"),
        (("more",), [{"name": "b", "size": 1}], r"unknown field more\[0\]\.size"),
        (("by_name",), {"d": {"name": "d", "age": 1}}, r"unknown field by_name\.d\.age"),
        (("extra",), 1, r"unknown field extra"),
        (("inner",), {"shape": []}, r"name"),
    ],
)
def test_what_does_not_fit_is_named(path: tuple[str, ...], entry: object, message: str) -> None:
    document = to_json(FULL)
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = entry
    with pytest.raises(ValueError, match=message):
        from_json(Outer, document)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"'])
def test_text_that_is_no_such_object_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(Outer, text)


def test_whole_numbers_are_numbers() -> None:
    document = to_json(FULL) | {"rate": 2}
    assert from_json(Outer, document).rate == 2
