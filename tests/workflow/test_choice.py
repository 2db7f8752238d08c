"""Which run the options mean: by name, by its card, by the state of a killed training, or not at all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import card_in
from models.config import resnet_config
from progress import Description
from training.loop import checkpoint_from_dataset
from training.recipes import recipe_from_name
from vocabulary import DatasetName, Variant
from workflow.choice import Identity, identity_of, newest_run, session_from_options
from workflow.options import QuantizeOptions, RunOptions
from workflow.stages import calibrated_as_chosen
from workflow.weights import ensure_checkpoint

RECIPE = replace(recipe_from_name("digits", 8), epochs=3)


class Killed(BaseException):
    """As `kill -9` ends a process: nothing is cleaned up on the way."""


@pytest.fixture
def killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> Path:
    """The newest run: an original ResNet-14 whose training was killed in its second epoch."""
    monkeypatch.chdir(tmp_path)
    path = Path("runs") / "digits-original-14"

    def dies_in_epoch_2(
        items: object, description: Description, total: int | None = None
    ) -> Iterator[object]:
        for item in items:  # type: ignore[attr-defined]
            if callable(description) and description().startswith("epoch 2"):
                raise Killed
            yield item

    with pytest.raises(Killed):
        checkpoint_from_dataset(
            RunDirectory(path),
            resnet_config("original", 14),
            digits,
            RECIPE,
            progress=dies_in_epoch_2,  # type: ignore[arg-type]
        )
    # Ctrl-C leaves a checkpoint of the last epoch behind, and `kill -9` does not.
    RunDirectory(path).discard(CHECKPOINT, CHECKPOINT_CARD)
    return path


def test_a_killed_training_says_itself_what_it_is(killed_run: Path) -> None:
    assert newest_run() == killed_run
    assert identity_of(RunDirectory(killed_run)) == Identity("digits", "original", 14, "basic")
    session = session_from_options(RunOptions())
    assert (session.identity.variant, session.identity.depth) == ("original", 14)


def test_nothing_but_training_writes_weights_beside_a_killed_training(
    killed_run: Path, digits: Dataset
) -> None:
    before = sorted(path.name for path in killed_run.iterdir())
    session = session_from_options(RunOptions())
    with pytest.raises(
        UserError, match=r"training of original ResNet-14, interrupted after epoch 1"
    ) as error:
        calibrated_as_chosen(session, QuantizeOptions())
    assert "train" in error.value.fix
    assert sorted(path.name for path in killed_run.iterdir()) == before
    card = checkpoint_from_dataset(RunDirectory(killed_run), resnet_config("original", 14), digits, RECIPE)
    assert card.is_finished


def test_a_killed_training_without_a_best_checkpoint_still_has_its_network(killed_run: Path) -> None:
    run = RunDirectory(killed_run)
    run.discard("training-state.best.safetensors", "training-state.best.json")
    assert identity_of(RunDirectory(killed_run)) == Identity(None, "original", 14, "basic")


def test_a_run_with_files_and_no_card_is_refused(preact_run: RunDirectory) -> None:
    preact_run.discard(CHECKPOINT, CHECKPOINT_CARD)
    before = preact_run.recorded()
    with pytest.raises(UserError, match=f"no {CHECKPOINT_CARD}, so its network is not known"):
        session_from_options(RunOptions(run_dir=preact_run.path))
    assert RunDirectory(preact_run.path).recorded() == before


def test_a_run_says_itself_what_it_is_for(run: RunDirectory) -> None:
    session = session_from_options(RunOptions(run_dir=run.path))
    card = card_in(run)
    assert (session.identity.variant, session.identity.depth) == (card.model.variant, card.model.depth)
    assert session.network == card.model


def test_options_that_contradict_the_run_are_refused(preact_run: RunDirectory) -> None:
    for options in (RunOptions(depth=14), RunOptions(variant=Variant.original)):
        with pytest.raises(UserError, match="holds a preact ResNet-8"):
            session_from_options(replace(options, run_dir=preact_run.path))


def test_defaults_are_used_where_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = session_from_options(RunOptions())
    assert session.run.path == Path("runs/digits-preact-20")
    other = session_from_options(RunOptions(depth=164, variant=Variant.original, dataset=DatasetName.cifar10))
    assert other.run.path == Path("runs/cifar10-original-164")


def test_the_newest_run_is_taken_only_where_a_command_may(
    preact_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert session_from_options(RunOptions()).run.path.name == preact_run.path.name
    assert session_from_options(RunOptions(), newest=False).run.path.name == "digits-preact-20"
    # Where the data lie says nothing of which run is meant.
    with_data = RunOptions(data_dir=tmp_path)
    assert session_from_options(with_data).run.path.name == preact_run.path.name


def test_another_depth_forgets_the_block() -> None:
    known = Identity("digits", "preact", 20, "bottleneck")
    assert known.overlaid(Identity(depth=164)) == Identity("digits", "preact", 164, None)
    assert known.overlaid(Identity(variant="original")) == Identity("digits", "original", 20, "bottleneck")
    assert known.overlaid(Identity(depth=0)).depth == 0


def test_untrained_weights_are_made_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = session_from_options(RunOptions(depth=8))
    ensure_checkpoint(session)
    assert session.card.trained is False
