"""`export`: weights to ONNX."""

from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from workflow.options import RedoOptions, RunOptions, WeightsOptions


@flattened
def export(run: RunOptions, weights: WeightsOptions, redo: RedoOptions, output: OutputOptions) -> None:
    """Export to ONNX and audit the skip path."""
    from workflow.stages import exported
    from workflow.weights import beginning_session

    screen = Screen.from_options(output)
    session = beginning_session(run, weights, screen, redo.force)
    result = exported(session, weights.seed)
    screen.finish(
        "export",
        run=str(session.run.path),
        trained=session.card.trained,
        files=session.run.recorded("model."),
        audit=result.audit.to_json(),
        folded=result.folded,
        kept=result.kept,
        error=result.error,
    )
