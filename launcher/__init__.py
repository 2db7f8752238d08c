"""skipfold as an installed package: one name, `skipfold`, with everything else inside.

The project's folders are called `models`, `data`, `graphs` and the like, and import one another by these
names. In a wheel they lie in `skipfold/app`, so that they cannot collide with packages of other projects.
`activate` puts that folder first on the import path; the command `skipfold` and `python -m skipfold` do so by
themselves. From Python:

    import skipfold

    skipfold.activate()
    from workflow.deploy import deploy
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# `pip install -e .` installs no copy: this file then stands in `launcher/` of the checkout.
_APP = _HERE / "app" if (_HERE / "app").is_dir() else _HERE.parent


def activate() -> None:
    """Put skipfold's own modules first on the import path, before a `models/` of the working directory.

    Modules of the same names that were imported before, from elsewhere, are forgotten.
    """
    app = str(_APP)
    sys.path[:] = [app, *(entry for entry in sys.path if entry != app)]
    names = {path.stem for path in _APP.glob("*.py")} | {
        path.parent.name for path in _APP.glob("*/__init__.py")
    }
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in names and not _is_ours(getattr(module, "__file__", None)):
            del sys.modules[name]


def main() -> None:
    """Run the command line."""
    activate()
    from cli import main as run_command_line

    run_command_line()


def _is_ours(file: str | None) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(_APP)
