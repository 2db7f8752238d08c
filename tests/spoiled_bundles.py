"""Ways to spoil the copy of a bundle."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], object]


def rewrite(folder: Path, change: Change) -> None:
    """Write another bundle.json; `change` is given its fields and changes them in place."""
    path = folder / "bundle.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replace a file, and list it as if it had been there from the beginning."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewrite(folder, lambda fields: fields["files"].update({name: entry}))
