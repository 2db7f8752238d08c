"""`build`: TensorRT engines."""

from artifacts.json_codec import to_json
from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from commands.tables import show_layers
from workflow.options import BuildOptions, PrecisionOptions, RedoOptions, RunOptions


@flattened
def build(
    run: RunOptions,
    precision: PrecisionOptions,
    options: BuildOptions,
    redo: RedoOptions,
    output: OutputOptions,
) -> None:
    """Build TensorRT engines; no GPU is needed for RTX. --verbose lists the kernels of each."""
    from workflow.choice import session_from_options
    from workflow.stages import built

    screen = Screen.from_options(output)
    session = session_from_options(run, screen, redo.force)
    cards = built(session, options, precision.precision)
    if screen.verbose:
        for name, card in cards.items():
            show_layers(screen, session.run, name, card)
    engines = [{"file": name, **to_json(card)} for name, card in cards.items()]
    screen.finish("build", run=str(session.run.path), engines=engines)
