"""`analyze`: what the skip path carries, in both variants."""

from typing import TYPE_CHECKING

from artifacts.json_codec import to_json
from commands.flatten import flattened
from commands.screen import OutputOptions, Screen
from workflow.options import AnalyzeOptions, RedoOptions

if TYPE_CHECKING:
    from workflow.analyze import Analyzed


@flattened
def analyze(options: AnalyzeOptions, redo: RedoOptions, output: OutputOptions) -> None:
    """Measure what the skip path carries forward and backward.

    In both variants, freshly initialised and, where runs/DATASET-VARIANT-DEPTH holds a trained
    checkpoint, after training.
    """
    from workflow.analyze import analyze as analysis_of

    screen = Screen.from_options(output)
    analyzed = analysis_of(options, redo, screen)
    _show(screen, analyzed)
    analyzed.require_identity()
    screen.finish("analyze", run=str(analyzed.run.path), **to_json(analyzed.analysis))


def _show(screen: Screen, analyzed: "Analyzed") -> None:
    """A row for each network: the largest errors of eq. 4 and 5, the gradient's ends, means of the rest."""
    from analysis.network import percent

    network, analysis = analyzed.network, analyzed.analysis
    rows = [(measured, measured.summary()) for measured in analysis.networks]
    screen.table(
        f"ResNet-{network.depth}, {network.block} blocks, {analysis.images} images, float64",
        [
            *("network", "weights", "loss", "eq. 4 error", "eq. 5 error", "gradient, first", "last block"),
            *("skip share", "dead a block", "a stage", "eq. 4 and 5"),
        ],
        [
            [
                measured.variant,
                "trained" if measured.trained else "initialised",
                f"{figures['loss']:.3g}",
                *(f"{figures[name]:.1e}" for name in ("forward_error", "backward_error")),
                *(f"{figures[name]:.2g}" for name in ("first_norm", "last_norm")),
                *(percent(figures[name]) for name in ("skip_share", "dead", "dead_to_end")),
                "hold" if measured.identity_holds else "do not hold",
            ]
            for measured, figures in rows
        ],
    )
    trained = {measured.variant for measured in analysis.networks if measured.trained}
    if untrained := sorted({measured.variant for measured in analysis.networks} - trained):
        screen.say("analyze", f"no trained checkpoint of {', '.join(untrained)}: only initialised weights")
