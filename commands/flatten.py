"""Option groups as parameters of a Typer command.

Typer reads a command's signature and knows no groups. `flattened` gives it one parameter for each field of
each group, and puts the groups together again before the command's own code runs:

    @flattened
    def build(run: RunOptions, build: BuildOptions) -> None: ...

becomes, for Typer, `build(*, depth=…, block=…, …, target=…, builder=…)`.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from workflow.options import Flag

Command = Callable[..., None]


def flattened(command: Command) -> Command:
    """The same command with the fields of its option groups as keyword parameters.

    Args:
        command: every parameter is annotated with a dataclass whose fields are `workflow.options.flag` or
            `switch`.

    Raises:
        TypeError: a parameter is no option group, or two groups have a field of the same name.
    """
    groups = {name: kind for name, kind in get_type_hints(command).items() if name != "return"}
    if not_groups := [name for name in signature(command).parameters if not is_dataclass(groups.get(name))]:
        raise TypeError(f"{command.__name__}: {', '.join(not_groups)} is annotated with no option group")
    parameters = [parameter for kind in groups.values() for parameter in _parameters(kind)]
    names = [parameter.name for parameter in parameters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{command.__name__}: two groups have a field {', '.join(twice)}")

    def with_flat_options(**values: Any) -> None:
        command(**{name: _group(kind, values) for name, kind in groups.items()})

    with_flat_options.__name__, with_flat_options.__doc__ = command.__name__, command.__doc__
    # Typer takes names and defaults from the signature, and types from the annotations.
    vars(with_flat_options)["__signature__"] = Signature(parameters)
    with_flat_options.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return with_flat_options


def _group(kind: type[Any], values: dict[str, Any]) -> Any:
    """One option group from the values of all parameters."""
    # Typer hands an unset list over as None or as an empty list, by its version.
    return kind(
        **{entry.name: None if values[entry.name] == [] else values[entry.name] for entry in fields(kind)}
    )


def _parameters(kind: type[Any]) -> list[Parameter]:
    hints = get_type_hints(kind)
    return [_parameter(entry, hints[entry.name]) for entry in fields(kind)]


def _parameter(entry: "Field[Any]", hint: Any) -> Parameter:
    flag: Flag = entry.metadata["flag"]
    if flag.choices:
        words = StrEnum(entry.name, list(flag.choices))  # type: ignore[misc]
        hint = list[words] | None if "list" in str(hint) else words | None  # type: ignore[valid-type]
    if flag.names:
        description: Any = typer.Option(*flag.names, help=flag.help, min=flag.least, hidden=flag.hidden)
    else:
        description = typer.Argument(help=flag.help)
    required = entry.default is MISSING
    return Parameter(
        entry.name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if required else entry.default,
        annotation=Annotated[hint, description],
    )
