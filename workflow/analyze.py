"""Both variants of a network measured side by side, in a run of their own."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from vocabulary import Block, DatasetName, Variant
from workflow.choice import RUNS, run_name, session_from_options
from workflow.listener import NOBODY, Listener
from workflow.options import AnalyzeOptions, RedoOptions, RunOptions
from workflow.weights import DEFAULT_SEED

if TYPE_CHECKING:
    from analysis.network import Measured
    from models.config import ResNetConfig


@dataclass(frozen=True)
class Analysis:
    """What was measured, and where it was written.

    Attributes:
        networks: each variant initialised and, where a run holds trained weights of it, trained.
    """

    run: RunDirectory
    network: "ResNetConfig"
    document: dict[str, Any]
    networks: "tuple[Measured, ...]"

    def require_identity(self) -> None:
        """Raise CheckFailed where the skip path of a pre-activation network changes what it carries."""
        if not all(entry.identity_holds for entry in self.networks if entry.variant == Variant.preact):
            raise CheckFailed(
                "the skip path of the pre-activation network is no identity", "restore models/blocks.py"
            )


def analyze(
    options: AnalyzeOptions, redo: RedoOptions = RedoOptions(), listener: Listener = NOBODY
) -> Analysis:
    """Measure what the skip path carries forward and backward, unless that is up to date."""
    from analysis.both_variants import DEFAULT_IMAGES, analysis_from_networks
    from analysis.network import measured_from_json

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
    document, done = analysis_from_networks(
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
    networks = tuple(measured_from_json(fields) for fields in document["networks"])
    return Analysis(run, network, document, networks)
