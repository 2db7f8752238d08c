"""Weights for a run: trained, taken over from elsewhere, or freshly initialised."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.names import CHECKPOINT
from errors import UserError
from vocabulary import Block, DatasetName, Device, Variant
from workflow.choice import Session, session_from_options
from workflow.listener import NOBODY, Listener, busy
from workflow.options import ExecutionOptions, RunOptions, TrainingOptions, WeightsOptions

if TYPE_CHECKING:
    from models.checkpoint import CheckpointCard
    from training.execution import Execution
    from training.recipes import Recipe

DEFAULT_SEED = 0


def beginning_session(
    run: RunOptions, weights: WeightsOptions, listener: Listener = NOBODY, force: bool = False
) -> Session:
    """A session for a command that may begin a run, with the weights of --from taken over.

    Raises:
        UserError: as `session_from_options`; --from names no checkpoint, or one of another network than the
            options; a seed beside --from, which would decide nothing.
    """
    if weights.checkpoint is None:
        return session_from_options(run, listener, force, newest=False)
    if weights.seed is not None:
        raise UserError(
            f"--seed {weights.seed} would initialise weights, and --from takes them over",
            "leave one of the two out",
        )
    return _session_taking_over(run, weights.checkpoint, listener, force)


def _session_taking_over(run: RunOptions, checkpoint: Path, listener: Listener, force: bool) -> Session:
    from models.checkpoint import model_from_checkpoint
    from models.config import resnet_config
    from training.checkpoints import checkpoint_from_files, require_same_network

    _, card = model_from_checkpoint(checkpoint, checkpoint.with_suffix(".json"))
    model = card.model
    # Another depth than the checkpoint's comes with the block that the papers use at that depth.
    block = Block(model.block) if run.depth is None and run.block is None else run.block
    chosen = replace(
        run,
        variant=Variant(model.variant) if run.variant is None else run.variant,
        depth=model.depth if run.depth is None else run.depth,
        block=block,
        dataset=DatasetName(card.dataset) if run.dataset is None else run.dataset,
    )
    session = session_from_options(chosen, listener, force)
    identity = session.identity
    asked = resnet_config(str(identity.variant), identity.depth or 0, identity.block, model.num_classes)
    require_same_network(card, asked, session.dataset_name, checkpoint)
    if checkpoint_from_files(session.run, checkpoint, force):
        listener.say("import", f"{checkpoint} -> {session.run.path / CHECKPOINT}")
    else:
        listener.say("import", "up to date")
    return session


def trained(
    session: Session, options: TrainingOptions, execution: "Execution", seed: int | None = None
) -> "CheckpointCard":
    """Train the session's network, or go on with its training.

    Raises:
        UserError, CheckFailed: as `training.checkpoint_from_dataset`.
    """
    from training.checkpoint_from_dataset import checkpoint_from_dataset

    recipe = recipe_from_options(session, options)

    def after_epoch(model: Any, line: dict[str, Any]) -> None:
        session.listener.say(
            "train",
            f"epoch {line['epoch']}/{recipe.epochs}: loss {line['loss']:.4f}, accuracy "
            f"{line['train_accuracy']:.2f} %, held out {line['held_out_accuracy']:.2f} %, "
            f"{line['images_per_s']:,.0f} images/s in {line['arithmetic']}"
            f"{', activations computed twice' if line['recompute'] else ''}",
        )

    card = checkpoint_from_dataset(
        session.run,
        session.network,
        session.dataset,
        recipe,
        DEFAULT_SEED if seed is None else seed,
        execution,
        session.force,
        session.listener.progress,
        after_epoch,
    )
    training = card.training
    session.listener.say(
        "train",
        f"{card.model.variant} ResNet-{card.model.depth}, {training['recipe']['epochs']} epochs in "
        f"{training['seconds']:.0f} s ({training['arithmetic']}): "
        f"test accuracy {training['test_accuracy']:.2f} %",
    )
    return card


def trained_unless_done(
    session: Session, options: TrainingOptions, device: Device | None, seed: int | None
) -> None:
    """Train where the run has no trained weights yet, or where an option of training was given."""
    from training.checkpoints import holds_finished_training
    from training.execution import Execution

    said_nothing = options.choose_nothing and seed is None
    if said_nothing and not session.force and holds_finished_training(session.run):
        session.listener.say("train", "up to date: the weights in the run directory are used")
    else:
        trained(session, options, Execution(device or Device.cpu), seed)


def recipe_from_options(session: Session, options: TrainingOptions) -> "Recipe":
    """The recipe that the options name or that suits the data set, with what the options change of it."""
    from training.recipes import default_recipe, recipe_from_name

    depth = session.identity.depth or 0
    recipe = recipe_from_name(options.recipe or default_recipe(session.dataset_name), depth)
    return replace(
        recipe,
        epochs=recipe.epochs if options.epochs is None else options.epochs,
        peak_rate=recipe.peak_rate if options.peak_rate is None else options.peak_rate,
    )


def execution_from_options(options: ExecutionOptions, device: Device | None) -> "Execution":
    """How a training is run, with the defaults for what the options leave open."""
    from training.execution import Execution

    return Execution(
        device=device or Device.cpu,
        arithmetic=options.arithmetic,
        recompute=options.recompute,
        compiled=options.compiled,
        resume=options.resume is not False,
    )


def ensure_checkpoint(session: Session, seed: int | None = None) -> None:
    """Initialise weights where the run has none, and say plainly what the run's weights are worth.

    Initialised weights are made again under another seed; trained ones never are.

    Raises:
        UserError: the run holds a training that left no checkpoint yet, or a seed was given for weights
            that were trained or taken over.
    """
    _refuse_beside_training(session)
    _refuse_useless_seed(session, seed)
    if CHECKPOINT not in session.run or _has_another_seed(session, seed):
        _initialise(session, seed)
    card = session.card
    if not card.trained:
        session.listener.say(
            "warning",
            f"no trained checkpoint in {session.run.path}: these are freshly initialised weights, of "
            "which no accuracy is claimed (`train` makes trained ones)",
        )
    elif card.is_interrupted:
        session.listener.say(
            "warning",
            f"{session.run.path} holds an interrupted training after epoch "
            f"{card.training['epochs_done']} of {card.training['recipe']['epochs']} "
            "(`train` goes on with it)",
        )


def _initialise(session: Session, seed: int | None) -> None:
    from training.checkpoints import checkpoint_from_initialisation

    network, dataset = session.network, session.dataset
    with busy(session.listener, "initialising"):
        checkpoint_from_initialisation(session.run, network, dataset, DEFAULT_SEED if seed is None else seed)


def _refuse_beside_training(session: Session) -> None:
    """A training that finds other weights beside its state refuses to go on."""
    from training.state import unfinished_training

    if CHECKPOINT in session.run or (training := unfinished_training(session.run)) is None:
        return
    network = training.network
    raise UserError(
        f"{session.run.path} holds a training of {network['variant']} ResNet-{network['depth']}, interrupted "
        f"after epoch {training.epochs}, and no checkpoint yet",
        "repeat its `train` command to go on with it, or choose another --run-dir",
    )


def _refuse_useless_seed(session: Session, seed: int | None) -> None:
    if seed is None or CHECKPOINT not in session.run:
        return
    if (stage := session.run.record(CHECKPOINT).stage) != "initialise":
        raise UserError(
            f"--seed {seed} would initialise weights, and `{stage}` has written those in {session.run.path}",
            "leave --seed out, or choose another --run-dir",
        )


def _has_another_seed(session: Session, seed: int | None) -> bool:
    """Whether the run's initialised weights were made under another seed than was given."""
    return seed is not None and session.run.record(CHECKPOINT).options.get("seed") != seed
