"""bundle.json as JSON Schema, made from the dataclasses of `bundling.document`."""

import json
from typing import Any

import msgspec

from bundling.document import BundleDocument

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """Return the text of docs/bundle.schema.json."""
    schema = msgspec.json.schema(BundleDocument)
    for entry in schema["$defs"].values():
        if "properties" in entry:
            # Whoever reads a bundle from Python refuses a key that no field takes, and so does the schema.
            entry["additionalProperties"] = False
            entry["description"] = _first_paragraph(entry.get("description", ""))
    document: dict[str, Any] = {"$schema": _DIALECT, "title": "bundle.json of skipfold", **schema}
    return json.dumps(document, indent=1) + "\n"


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
