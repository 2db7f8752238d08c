"""skipfold's command line: assembles the commands, and turns errors into exit statuses.

0 done and verified, 1 a check failed, 2 wrong usage or a missing part, 130 interrupted. Heavy packages are
imported inside the commands, so that `--help` is instant.
"""

import json
import sys
from pathlib import Path
from typing import NoReturn

import typer

from artifacts.files import environment_errors
from commands.analyze import analyze
from commands.benchmark import benchmark
from commands.build import build
from commands.bundle import bundle
from commands.calibrate import calibrate
from commands.check import check
from commands.deploy import deploy
from commands.doctor import doctor
from commands.export import export
from commands.predict import predict
from commands.sdk import sdk
from commands.train import train
from commands.verify import verify
from errors import UserError

_INTERRUPTED = 130
COMMANDS = (
    *(train, analyze, export, calibrate, build, verify),
    *(check, benchmark, deploy, predict, bundle, sdk, doctor),
)

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="CIFAR-style ResNets, original and pre-activation, from training to verified engines.",
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; the console script `skipfold` and `python cli.py` both start here."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        with environment_errors(Path.cwd()):
            sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        _fail(error)
    except (KeyboardInterrupt, typer.Abort, SystemExit) as stop:
        # Later versions of Typer turn Ctrl-C into an exit of their own.
        if isinstance(stop, SystemExit) and stop.code != _INTERRUPTED:
            raise
        sys.stderr.write("interrupted: nothing is half-written; the same command continues\n")
        sys.exit(_INTERRUPTED)
    except Exception as error:
        # Typer's usage errors derive from click's or, in later versions, from its own copy of it.
        if not hasattr(error, "format_message"):
            raise
        _fail(UserError(error.format_message(), f"see `{Path(sys.argv[0]).name} --help`"))


def _fail(error: UserError) -> NoReturn:
    if "--json" in sys.argv:
        fields = {"problem": error.problem, "fix": error.fix}
        sys.stdout.write(json.dumps({"error": fields}) + "\n")
    sys.stderr.write(f"error: {error.problem}\n  fix: {error.fix}\n")
    sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
