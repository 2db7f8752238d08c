"""Bring the browser that the tests of `bundle --web` drive to a machine: `python tools/browser.py`.

Without a browser these tests skip and name what is missing. `.ci/run` calls this, so that CI runs them.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Install Chromium and its driver from the system's package manager, where they are missing."""
    sys.path.insert(0, str(ROOT))
    from errors import UserError
    from tools.edge.packages import Need, install_packages, tool

    needs = (
        Need(("chromium", "chromium-browser"), tool("chromium")),
        Need(("chromium-driver", "chromium-chromedriver"), tool("chromedriver")),
    )
    try:
        install_packages(needs)
    except UserError as error:
        sys.exit(f"error: {error.problem}\n  fix: {error.fix}")


if __name__ == "__main__":
    main()
