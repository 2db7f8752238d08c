"""`check`: what can be proved of anyone's ONNX file, from the file alone."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from errors import UserError
from workflow.options import Flag, flag


@dataclass(frozen=True)
class CheckOptions:
    """Which file is checked, and for what."""

    file: Path = field(metadata={"flag": Flag((), "Any ONNX file.")})
    runtime: str | None = flag(
        "--for",
        help="Say instead what TensorRT refuses or misreads of the file, without building anything.",
        choices=("trt",),
    )
    target: str | None = flag("--target", help="GPUs to check for, e.g. sm86,sm89; with --for trt.")

    @property
    def targets(self) -> list[str]:
        """The compute capabilities one by one.

        Raises:
            UserError: one of them is not of the form sm89.
        """
        targets = [part.strip() for part in (self.target or "").split(",") if part.strip()]
        for target in targets:
            if not re.fullmatch(r"sm\d+", target):
                raise UserError(f"unknown --target '{target}'", "name compute capabilities such as sm89")
        return targets


@flattened
def check(options: CheckOptions, output: OutputOptions) -> None:
    """Say of any ONNX file whether its INT8 sums can overflow without VNNI, or what TensorRT makes of it.

    Exit status 1 if overflow cannot be ruled out, or if TensorRT refuses or misreads the file.
    """
    screen = Screen.from_options(output)
    if options.runtime is not None:
        check_for_tensorrt(screen, options.file, options.targets)
    elif options.target is not None:
        raise UserError(f"--target {options.target} is for GPUs", "add --for trt, or leave --target out")
    else:
        check_file(screen, options.file)


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


def check_for_tensorrt(screen: Screen, file: Path, targets: list[str]) -> None:
    """Show what TensorRT for RTX refuses or misreads of a file; `typer.Exit(1)` if there is anything."""
    from graphs.onnx_file import any_graph_from_file
    from runtimes.tensorrt.package import BUILDERS
    from runtimes.tensorrt.preflight import preflight

    findings = preflight(any_graph_from_file(file), BUILDERS["rtx"], targets)
    where = f" on {', '.join(targets)}" if targets else ""
    if findings:
        rows = [[finding.node, finding.problem, finding.fix] for finding in findings]
        screen.table(
            f"What TensorRT would not do with {file}{where}", ["node", "problem", "fix"], rows, words=3
        )
    screen.say("tensorrt", f"{len(findings) or 'no'} objections to {file}{where}")
    screen.finish("check", file=str(file), targets=targets, findings=[entry.to_json() for entry in findings])
    if findings:
        raise typer.Exit(1)


def _cells(finding: Any) -> list[str]:
    numbers = ("–" if number is None else str(number) for number in (finding.pair_sum, finding.channel))
    verdict = f"{finding.verdict}: {finding.reason}" if finding.reason else finding.verdict
    return [finding.node, finding.op_type, *numbers, verdict]
