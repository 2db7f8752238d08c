"""Tables for `results/`, and the lines that name the machine, the versions and the date of a measurement."""

from datetime import UTC, datetime

from machine.description import package_versions, this_machine


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, in which every row is as long as `columns`."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine_lines() -> str:
    """Return three lines with the machine, the versions of the packages and today's date."""
    machine = this_machine()
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return (
        f"Machine: {machine.sentence()}; {machine.system}  \n"
        f"Versions: {versions}  \n"
        f"Date: {datetime.now(UTC):%Y-%m-%d}"
    )
