"""From options to the run that a command works on, and the network the run is for.

A run that holds weights says itself which network it is for. A training that was killed before it left a
checkpoint says so too, in the record of its state; nothing but `train` may then write weights into that run,
because the training would refuse to go on beside them.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.names import ANALYSIS_FILES, CHECKPOINT, CHECKPOINT_CARD, MANIFEST
from artifacts.run_directory import RunDirectory
from errors import UserError
from vocabulary import DatasetName, Variant
from workflow.listener import NOBODY, Listener
from workflow.options import RunOptions

if TYPE_CHECKING:
    from data.dataset import Dataset
    from models.checkpoint import CheckpointCard
    from models.config import ResNetConfig

RUNS = Path("runs")
DEFAULT_DATASET, DEFAULT_VARIANT, DEFAULT_DEPTH = DatasetName.digits, Variant.preact, 20


@dataclass(frozen=True)
class Identity:
    """What a run is for; None where nothing says it.

    Attributes:
        dataset: name of the data set.
    """

    dataset: str | None = None
    variant: str | None = None
    depth: int | None = None
    block: str | None = None

    def overlaid(self, other: "Identity") -> "Identity":
        """Everything that `other` says, and the rest as it was; another depth forgets the block."""
        said = {name: value for name, value in asdict(other).items() if value is not None}
        block = None if other.depth is not None else self.block
        return Identity(**{**asdict(self), "block": block, **said})


@dataclass
class Session:
    """One run, the network it is for, and who is told what is done to it.

    Attributes:
        identity: with all but the block filled in.
        data_dir: where the data set's files lie, for the data sets that need files.
        force: do again what is up to date.
    """

    run: RunDirectory
    identity: Identity
    data_dir: Path | None
    listener: Listener
    force: bool = False

    @cached_property
    def dataset(self) -> "Dataset":
        """The data set, read when it is first needed."""
        from data.load import dataset_from_name

        return dataset_from_name(self.dataset_name, self.data_dir, self.listener.progress)

    @property
    def dataset_name(self) -> str:
        """Name of the data set."""
        assert self.identity.dataset is not None
        return self.identity.dataset

    @property
    def network(self) -> "ResNetConfig":
        """The configuration asked for, with the data set's classes."""
        return _network(self.identity, len(self.dataset.classes))

    @property
    def card(self) -> "CheckpointCard":
        """The card of the run's checkpoint."""
        from models.checkpoint import card_in

        return card_in(self.run)


def session_from_options(
    options: RunOptions, listener: Listener = NOBODY, force: bool = False, newest: bool = True
) -> Session:
    """Find the run that the options mean.

    Args:
        newest: whether to take the run that was written last where no option chooses one. Commands that
            may begin a run take the default network instead.

    Raises:
        UserError: no such network, or the run is for another one than the options name, or its files do
            not say what it is for.
    """
    run_dir = options.run_dir
    if run_dir is None and newest and options.choose_nothing and (run_dir := newest_run()):
        listener.say("run", f"{run_dir}, the newest (--depth, --variant, --dataset or --run-dir choose)")
    asked = Identity(options.dataset, options.variant, options.depth, options.block)
    known = identity_of(RunDirectory(run_dir)) if run_dir else Identity()
    defaults = Identity(DEFAULT_DATASET, DEFAULT_VARIANT, DEFAULT_DEPTH)
    identity = defaults.overlaid(known).overlaid(asked)
    network = _network(identity)
    run = RunDirectory(run_dir or RUNS / run_name(str(identity.dataset), network.variant, network))
    session = Session(run, identity, options.data_dir, listener, force)
    _require_same_network(session)
    return session


def run_name(dataset: str, what: str, network: "ResNetConfig") -> str:
    """DATASET-WHAT-DEPTH, with the block where the papers use another one at this depth."""
    from models.config import default_block

    name = f"{dataset}-{what}-{network.depth}"
    return name if network.block == default_block(network.depth) else f"{name}-{network.block}"


def newest_run() -> Path | None:
    """The run of a network that was written last; an analysis is not the run of a network."""
    manifests = sorted(RUNS.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    runs = (path.parent for path in manifests)
    return next((path for path in runs if RunDirectory(path).recorded() != sorted(ANALYSIS_FILES)), None)


def identity_of(run: RunDirectory) -> Identity:
    """What a run is for, by its checkpoint's card or by the state of its training.

    Raises:
        UserError: the run holds files and neither of the two. Whatever was written into such a run could
            belong to another network than its files.
    """
    from models.checkpoint import card_in
    from training.state import unfinished_training

    if run.is_intact(CHECKPOINT_CARD):
        card = card_in(run)
        return Identity(card.dataset, card.model.variant, card.model.depth, card.model.block)
    if (training := unfinished_training(run)) is not None:
        network = training.network
        return Identity(training.dataset, network["variant"], network["depth"], network["block"])
    if run.recorded() and CHECKPOINT_CARD not in run:
        raise UserError(
            f"{run.path} holds {run.recorded()[0]} and no {CHECKPOINT_CARD}, so its network is not known",
            f"restore {CHECKPOINT} and {CHECKPOINT_CARD}, or choose another --run-dir",
        )
    return Identity()


def _network(identity: Identity, num_classes: int = 10) -> "ResNetConfig":
    from models.config import resnet_config

    fields: dict[str, Any] = {name: getattr(identity, name) for name in ("variant", "depth", "block")}
    return resnet_config(**fields, num_classes=num_classes)


def _require_same_network(session: Session) -> None:
    from training.checkpoints import require_same_network

    if session.run.is_intact(CHECKPOINT_CARD):
        card = session.card
        wanted = _network(session.identity, card.model.num_classes)
        require_same_network(card, wanted, session.dataset_name, session.run.path)
