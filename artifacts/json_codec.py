"""Between frozen dataclasses and the JSON of their files.

`msgspec` converts and checks types: tuples are lists in JSON, a nested dataclass is an object, and an
enumeration is its word. `msgspec` passes over a field that the dataclass does not have; here that is an error
too, because the field would be lost when the file is written again.
"""

import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from errors import UserError

Value = TypeVar("Value")


def to_json(value: object) -> Any:
    """A dataclass as a JSON file gives it back: objects, lists, text, numbers, true, false and null."""
    return json.loads(json.dumps(msgspec.to_builtins(value, str_keys=True)))


def from_json(kind: type[Value], fields: object) -> Value:
    """A dataclass from what `to_json` gave.

    Args:
        kind: a dataclass, or a tuple or mapping of dataclasses.

    Raises:
        ValueError: a field is missing, unknown or of another type; names its path.
    """
    value = msgspec.convert(fields, kind, strict=True, str_keys=True)
    if unknown := _unknown_field(value, fields, ""):
        raise ValueError(f"unknown field {unknown}")
    return value


def from_text(kind: type[Value], text: str | bytes) -> Value:
    """The same from the text of a file; ValueError also where the text is no JSON."""
    return from_json(kind, json.loads(text))


def from_file(kind: type[Value], path: Path, what: str, fix: str) -> Value:
    """The same from a file.

    Args:
        what: the file should hold, such as "a plan"; for the error.

    Raises:
        UserError: the file cannot be read, or is not the text of such a dataclass.
    """
    try:
        return from_text(kind, path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not {what} ({error})", fix) from error


def to_text(value: object) -> str:
    """The text of a file, one field a line."""
    return json.dumps(to_json(value), indent=1) + "\n"


def _unknown_field(value: object, fields: Any, path: str) -> str | None:
    """Path of the first field in JSON that the value which `msgspec` made of it does not have."""
    if is_dataclass(value):
        if unknown := [name for name in fields if not hasattr(value, name)]:
            return _joined(path, unknown[0])
        pairs = [(_joined(path, name), getattr(value, name), entry) for name, entry in fields.items()]
    elif isinstance(value, dict):
        pairs = [(_joined(path, key), value[key], entry) for key, entry in fields.items() if key in value]
    elif isinstance(value, list | tuple):
        pairs = [(f"{path}[{i}]", *both) for i, both in enumerate(zip(value, fields, strict=True))]
    else:
        return None
    unknown_fields = (_unknown_field(inner, entry, where) for where, inner, entry in pairs)
    return next((unknown for unknown in unknown_fields if unknown), None)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
