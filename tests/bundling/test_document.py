"""bundle.json as dataclasses and as a JSON Schema, which say the same."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from artifacts.json_codec import from_text, to_json, to_text
from bundling.document import PRODUCER, BundleDocument
from bundling.schema import schema_text
from workflow.bundle import WrittenBundle

ROOT = Path(__file__).parents[2]


def test_the_file_in_docs_is_made_of_the_dataclasses() -> None:
    text = (ROOT / "docs/bundle.schema.json").read_text()
    assert text == schema_text(), "run `python tools/bundle_schema.py`"


def test_every_object_of_the_schema_is_closed() -> None:
    objects = [entry for entry in json.loads(schema_text())["$defs"].values() if "properties" in entry]
    assert len(objects) == 16
    assert all(entry["additionalProperties"] is False for entry in objects)
    assert all(set(entry["required"]) == set(entry["properties"]) for entry in objects)


def test_the_producer_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"{project['name']} {project['version']}" == PRODUCER


def test_a_document_is_read_back_as_it_was_written(written: WrittenBundle) -> None:
    text = (written.folder / "bundle.json").read_text()
    assert from_text(BundleDocument, text) == written.document
    assert to_text(from_text(BundleDocument, text)) == text


def test_the_keys_stand_in_their_order(written: WrittenBundle) -> None:
    keys = list(json.loads((written.folder / "bundle.json").read_text()))
    assert keys == [
        *("schema", "producer", "network", "classes", "picture", "normalise"),
        *("artifacts", "golden", "files", "unverified"),
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "skipfold.bundle/2"),
        (("producer",), None),
        (("network", "variant"), "dense"),
        (("picture", "color"), "bgr"),
        (("normalise", "formula"), "(x-mean)/std"),
        (("artifacts", 0, "hardware", "vnni"), "yes"),
        (("artifacts", 0, "runtime", "accepts"), "newer"),
        (("artifacts", 0, "runtime", "settings", "INFERENCE_PRECISION_HINT"), 32),
        (("artifacts", 0, "input", "dtype"), "float16"),
        (("golden", "labels", 0), 1.5),
        (("unverified",), "no"),
        (("timestamp",), "2026-11-25"),
        (("golden", "seed"), 1),
    ],
)
def test_another_document_is_refused(
    bundle_document: BundleDocument, path: tuple[str | int, ...], value: object
) -> None:
    fields: Any = to_json(bundle_document)
    inside = fields
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    with pytest.raises(ValueError, match=r"."):
        from_text(BundleDocument, json.dumps(fields))
