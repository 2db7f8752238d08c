"""What tests of the page in a browser wait for and look up."""

import json
from pathlib import Path
from typing import Any

# True as soon as the self-test has a verdict.
TESTED = "document.getElementById('verdict').dataset.state !== 'running'"


def description_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "page.json").read_text())
