"""`bundle`: verified artifacts for programs elsewhere, and a check of what was received."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from artifacts.json_codec import to_json
from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from errors import UserError
from workflow.options import BundleOptions, ReceivedOptions, RunOptions, RuntimeOptions, SubjectOptions

if TYPE_CHECKING:
    from bundling.document import BundleDocument
    from workflow.bundle import CheckedBundle, WrittenBundle


@flattened
def bundle(
    run: RunOptions,
    subjects: SubjectOptions,
    options: BundleOptions,
    received: ReceivedOptions,
    runtime: RuntimeOptions,
    output: OutputOptions,
) -> None:
    """Write verified artifacts with all that a program elsewhere needs, or check such a bundle.

    A bundle holds what has passed `verify`. With --check, exit status 1 if a file was changed or an artifact
    computes something else here than where the bundle was written.
    """
    screen = Screen.from_options(output)
    if received.check is not None:
        others = run, subjects, options, replace(runtime, threads=None)
        if any(group != type(group)() for group in others):
            raise UserError(
                f"--check {received.check} reads a bundle, and the other options are for writing one",
                "leave out --check, or all but --sha256, --public-key and --threads",
            )
        _check(screen, received, runtime)
        return
    if received != ReceivedOptions():
        raise UserError("--sha256 and --public-key are for a bundle that was received", "add --check PATH")
    _write(screen, run, subjects, options, runtime)


def _write(
    screen: Screen, run: RunOptions, subjects: SubjectOptions, options: BundleOptions, runtime: RuntimeOptions
) -> None:
    from workflow.bundle import bundled
    from workflow.choice import session_from_options

    written = bundled(session_from_options(run, screen), subjects, options, runtime)
    document = written.document
    screen.table(
        str(written.folder),
        ["artifact", "file", "MB", "dB", "verdict"],
        [_cells(document, index) for index in range(len(document.artifacts))],
    )
    if document.unverified:
        screen.say("warning", "the bundle is not verified as a whole, and says so")
    for name, path in _places(written).items():
        if path is not None:
            screen.say(name, path)
    screen.say("bundle", f"sha256 of bundle.json: {written.sha256}")
    screen.finish(
        "bundle",
        **_places(written),
        sha256=written.sha256,
        bundle=to_json(document),
    )


def _places(written: "WrittenBundle") -> dict[str, str | None]:
    """Return where each thing that was written lies, and None for what was not asked for."""
    paths = {
        "folder": written.folder,
        "archive": written.archive,
        "triton": written.triton,
        "web": written.web,
    }
    return {name: None if path is None else str(path) for name, path in paths.items()}


def _cells(document: "BundleDocument", index: int) -> list[str]:
    artifact = document.artifacts[index]
    size = f"{document.files[artifact.file].bytes / 1e6:.2f}"
    verdict = artifact.verdict
    if verdict is None:
        return [artifact.id, artifact.file, size, "–", "not verified"]
    decibels = "equal" if verdict.snr_db is None else f"{verdict.snr_db:.1f}"
    return [artifact.id, artifact.file, size, decibels, "pass" if verdict.passed else "out of tolerance"]


def _check(screen: Screen, received: ReceivedOptions, runtime: RuntimeOptions) -> None:
    from workflow.bundle import checked

    result = checked(received, runtime, screen)
    _show_outcomes(screen, Path(str(received.check)), result)
    if not result.passed:
        raise typer.Exit(1)


def _show_outcomes(screen: Screen, path: Path, result: "CheckedBundle") -> None:
    def decibels(snr_db: float | None) -> str:
        return "–" if snr_db is None else "equal" if snr_db == float("inf") else f"{snr_db:.1f}"

    rows = [[one.id, one.state, decibels(one.snr_db), one.reason] for one in result.outcomes]
    screen.table(str(path), ["artifact", "state", "dB", "reason"], rows)
    if result.document.unverified:
        screen.say("warning", "the bundle says of itself that it is not verified as a whole")
    screen.say("check", "passed" if result.passed else "FAILED")
    outcomes: list[dict[str, Any]] = [
        # JSON has no infinity.
        to_json(one) | {"snr_db": None if one.snr_db == float("inf") else one.snr_db}
        for one in result.outcomes
    ]
    screen.finish(
        "bundle",
        check=str(path),
        passed=result.passed,
        unverified=result.document.unverified,
        artifacts=outcomes,
    )
