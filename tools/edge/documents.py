"""docs/embedding.md is true: its commands run in a fresh folder and end with the class of the golden picture.

Blocks marked `sh` run in order in one shell. A block marked `sh root` installs packages of the system, and
runs with the rights that `tools.edge.packages` found; the step `dependencies` has installed the same ones.
"""

import json
import re
import shutil
from pathlib import Path

from errors import CheckFailed
from tools.edge.packages import prefix_of_root
from tools.edge.steps import ROOT, run

PAGE = ROOT / "docs/embedding.md"
_BLOCK = re.compile(r"^```sh( root)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def check_documents(work: Path) -> str:
    """Run the page, and compare the last line with the bundle."""
    folder = work / "embedding"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copytree(work / "bundle", folder / "digits.bundle")
    script = script_of(PAGE.read_text())
    printed = run(["bash", "-euo", "pipefail", "-c", script], work / "embedding.log", folder=folder)
    document = json.loads((work / "bundle/bundle.json").read_text())
    expected = document["classes"][document["golden"]["labels"][0]]
    if (found := printed.splitlines()[-1]) != expected:
        raise CheckFailed(
            f"{PAGE} ends with the class {found}, and the bundle says {expected}", "mend the page"
        )
    return f"{len(_BLOCK.findall(PAGE.read_text()))} blocks of {PAGE.name}"


def script_of(page: str) -> str:
    """The commands of a page as one script."""
    return "".join(_as_root(body) if root else body for root, body in _BLOCK.findall(page))


def _as_root(body: str) -> str:
    """The lines with what makes a user root; what only root may do is left out where nobody may be root."""
    prefix = prefix_of_root()
    if prefix is None:
        return f"echo 'not run, because it needs root:' {body!r}\n"
    return "".join(" ".join([*prefix, line]) + "\n" for line in body.splitlines())
