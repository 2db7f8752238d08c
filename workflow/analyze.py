"""Both variants of a network measured side by side, in a run of their own."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from vocabulary import Block, DatasetName, Variant
from workflow.choice import RUNS, run_name, session_from_options
from workflow.listener import NOBODY, Listener
from workflow.options import AnalyzeOptions, RedoOptions, RunOptions
from workflow.weights import DEFAULT_SEED

if TYPE_CHECKING:
    from analysis.both_variants import Analysis
    from models.config import ResNetConfig


@dataclass(frozen=True)
class Analyzed:
    """What was measured, and where it was written."""

    run: RunDirectory
    network: "ResNetConfig"
    analysis: "Analysis"

    def require_identity(self) -> None:
        """Raise CheckFailed where the skip path of a pre-activation network changes what it carries."""
        if not all(
            entry.identity_holds for entry in self.analysis.networks if entry.variant == Variant.preact
        ):
            raise CheckFailed(
                "the skip path of the pre-activation network is no identity", "restore models/blocks.py"
            )


def analyze(
    options: AnalyzeOptions, redo: RedoOptions = RedoOptions(), listener: Listener = NOBODY
) -> Analyzed:
    """Measure what the skip path carries forward and backward, unless that is up to date."""
    from analysis.both_variants import DEFAULT_IMAGES, analysis_from_networks

    shared = RunOptions(
        depth=options.depth, block=options.block, dataset=options.dataset, data_dir=options.data_dir
    )
    session = session_from_options(shared, listener, redo.force)
    network = session.network
    run = RunDirectory(options.run_dir or RUNS / run_name(session.dataset_name, "analysis", network))
    checkpoints = {
        str(variant): session_from_options(
            RunOptions(
                depth=network.depth,
                block=Block(network.block),
                dataset=DatasetName(session.dataset_name),
                variant=variant,
            )
        ).run
        for variant in Variant
    }
    result, done = analysis_from_networks(
        run,
        session.dataset,
        network,
        checkpoints,
        DEFAULT_IMAGES if options.images is None else options.images,
        DEFAULT_SEED if options.seed is None else options.seed,
        redo.force,
        listener.progress,
    )
    listener.say("analyze", f"{'' if done else 'up to date: '}{run.path}")
    return Analyzed(run, network, result)
