"""`check`: what can be proved of anyone's ONNX file, from the file alone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from errors import UserError
from workflow.options import Flag


@dataclass(frozen=True)
class CheckOptions:
    """Which file is checked."""

    file: Path = field(metadata={"flag": Flag((), "Any quantized ONNX file.")})


@flattened
def check(options: CheckOptions, output: OutputOptions) -> None:
    """Say of any ONNX file whether its INT8 sums can overflow without VNNI.

    Exit status 1 if that cannot be ruled out.
    """
    check_file(Screen.from_options(output), options.file)


def check_file(screen: Screen, file: Path) -> None:
    """Show the verdict on each integer operator; `typer.Exit(1)` if one is not proved free of overflow."""
    from graphs.onnx_file import any_graph_from_file
    from graphs.saturation import not_proved_free, saturation_findings

    findings = saturation_findings(any_graph_from_file(file))
    if not findings:
        raise UserError(f"{file} holds no integer convolution", "name a quantized ONNX file")
    unsafe = not_proved_free(findings)
    screen.table(
        f"Sums of two 8-bit products in {file}",
        ["operator", "type", "worst pair", "channel", "16 bits"],
        [_cells(finding) for finding in findings],
    )
    verdict = f"{len(unsafe)} of {len(findings)} not proved free" if unsafe else "saturation-free"
    screen.say("saturation", verdict)
    screen.finish(
        "check",
        file=str(file),
        saturation_free=not unsafe,
        operators=[finding.to_json() for finding in findings],
    )
    if unsafe:
        raise typer.Exit(1)


def _cells(finding: Any) -> list[str]:
    numbers = ("–" if number is None else str(number) for number in (finding.pair_sum, finding.channel))
    verdict = f"{finding.verdict}: {finding.reason}" if finding.reason else finding.verdict
    return [finding.node, finding.op_type, *numbers, verdict]
