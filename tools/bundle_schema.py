"""Write docs/bundle.schema.json from the dataclasses of `bundling.document`.

python tools/bundle_schema.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMA_FILE = ROOT / "docs/bundle.schema.json"


def main() -> None:
    """Write the file."""
    # A script in tools/ finds the project's modules only if told where they lie.
    sys.path.insert(0, str(ROOT))
    from bundling.schema import schema_text

    SCHEMA_FILE.write_text(schema_text())


if __name__ == "__main__":
    main()
