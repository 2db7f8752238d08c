"""Option groups as parameters of a command."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import cli
from commands.flatten import flattened
from workflow import options as groups
from workflow.options import Flag, flag, switch


@dataclass(frozen=True)
class Where:
    place: Path | None = flag("--place", "-p", help="A place.")
    times: int | None = flag("--times", help="How often.", least=1)
    deep: bool | None = flag("--deep/--shallow", help="Whether.")


@dataclass(frozen=True)
class What:
    names: list[Path] = field(metadata={"flag": Flag((), "Names.")})
    colour: list[str] | None = flag("--colour", help="Which.", choices=("red", "green"))
    secret: str | None = flag("--secret", help="Not shown.", hidden=True)
    loud: bool = switch("--loud", help="Loudly.")


def run(*arguments: str) -> tuple[Any, list[object]]:
    received: list[object] = []

    @flattened
    def command(what: What, where: Where) -> None:
        """Do something."""
        received.extend((what, where))

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments)), received


def test_what_is_not_given_is_unset() -> None:
    _, received = run("x")
    assert received == [What([Path("x")]), Where()]
    assert (received[1].deep, received[0].colour) == (None, None)  # type: ignore[attr-defined]


def test_every_kind_of_option_arrives_in_its_group() -> None:
    _, received = run(
        *("x", "y", "-p", "here", "--times", "3", "--shallow"),
        *("--colour", "red", "--colour", "green", "--loud", "--secret", "s"),
    )
    assert received == [
        What([Path("x"), Path("y")], ["red", "green"], "s", True),
        Where(Path("here"), 3, False),
    ]


@pytest.mark.parametrize(
    "arguments", [(), ("x", "--times", "0"), ("x", "--colour", "blue"), ("x", "--times", "often")]
)
def test_what_is_not_allowed_is_refused(arguments: tuple[str, ...]) -> None:
    result, received = run(*arguments)
    assert result.exit_code == 2
    assert received == []


def test_help_shows_every_option_that_is_not_hidden() -> None:
    text = run("--help")[0].output
    for word in ("--place", "-p", "--times", "--deep", "--shallow", "--colour", "--loud", "Do something."):
        assert word in text
    assert "--secret" not in text


def test_a_parameter_that_is_no_group_is_named() -> None:
    def command(what: What, number: int) -> None: ...

    with pytest.raises(TypeError, match="number is annotated with no option group"):
        flattened(command)


def test_two_groups_with_one_field_are_named() -> None:
    @dataclass(frozen=True)
    class Again:
        place: Path | None = flag("--place", help="Another place.")

    def command(where: Where, again: Again) -> None: ...

    command.__annotations__["again"] = Again
    with pytest.raises(TypeError, match="two groups have a field place"):
        flattened(command)


OPTION_GROUPS = [kind for name, kind in vars(groups).items() if name.endswith("Options")]


@pytest.mark.parametrize("kind", OPTION_GROUPS, ids=lambda kind: kind.__name__)
def test_no_group_has_a_default_that_could_be_mistaken_for_a_choice(kind: type[Any]) -> None:
    """A switch is off by default, and everything else is unset."""
    for entry in fields(kind):
        assert entry.default is (False if entry.type is bool or entry.type == "bool" else None), entry.name
        assert entry.metadata["flag"].help.endswith("."), entry.name


def test_help_names_the_default_of_max_drop_where_there_is_one() -> None:
    runner = CliRunner()
    of_deploy, of_calibrate = (
        " ".join(runner.invoke(cli.app, [name, "--help"], env={"COLUMNS": "200"}).output.split())
        for name in ("deploy", "calibrate")
    )
    assert "at most so many points of accuracy. Default: no search." in of_deploy
    assert "Points of accuracy that INT8 may lose in a search. Default: 0.1." in of_calibrate
