"""Where a run's weights come from, and that no option about them is passed over."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.run_directory import RunDirectory
from errors import UserError
from training.recipes import recipe_from_name
from vocabulary import Arithmetic, Device
from workflow.choice import session_from_options
from workflow.options import ExecutionOptions, RedoOptions, RunOptions, TrainingOptions, WeightsOptions
from workflow.stages import exported
from workflow.weights import (
    beginning_session,
    ensure_checkpoint,
    execution_from_options,
    recipe_from_options,
    trained_unless_done,
)

EIGHT = RunOptions(depth=8)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights_of(options: RunOptions = EIGHT) -> bytes:
    return (session_from_options(options).run.path / CHECKPOINT).read_bytes()


def test_another_seed_initialises_other_weights(here: Path) -> None:
    exported(beginning_session(EIGHT, WeightsOptions()))
    first = weights_of()
    session = beginning_session(EIGHT, WeightsOptions(seed=1), force=True)
    exported(session, seed=1)
    other = weights_of()
    assert other != first
    exported(beginning_session(EIGHT, WeightsOptions()))
    assert weights_of() == other
    exported(beginning_session(EIGHT, WeightsOptions()), seed=0)
    assert weights_of() == first


def test_a_seed_beside_trained_weights_is_refused(preact_run: RunDirectory) -> None:
    session = session_from_options(RunOptions(run_dir=preact_run.path))
    before = (preact_run.path / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match=r"--seed 0 would initialise weights, and `train` has written"):
        ensure_checkpoint(session, seed=0)
    assert (preact_run.path / CHECKPOINT).read_bytes() == before
    ensure_checkpoint(session)


def test_a_seed_beside_from_is_refused(preact_run: RunDirectory, here: Path) -> None:
    weights = WeightsOptions(checkpoint=preact_run.path / CHECKPOINT, seed=1)
    with pytest.raises(UserError, match="--seed 1 would initialise weights, and --from takes them over"):
        beginning_session(RunOptions(run_dir=here / "new"), weights)
    assert not (here / "new").exists()


@pytest.mark.parametrize("depth", [0, -1, 9])
def test_a_depth_that_is_none_is_refused_beside_from(
    preact_run: RunDirectory, here: Path, depth: int
) -> None:
    weights = WeightsOptions(checkpoint=preact_run.path / CHECKPOINT)
    with pytest.raises(UserError, match=f"no CIFAR ResNet has depth {depth} "):
        beginning_session(RunOptions(depth=depth, run_dir=here / "new"), weights)
    assert not (here / "new").exists()


def test_from_takes_the_network_over_with_the_weights(run: RunDirectory, here: Path) -> None:
    shutil.move(run.path, here / "elsewhere")
    session = beginning_session(RunOptions(), WeightsOptions(checkpoint=here / "elsewhere" / CHECKPOINT))
    assert session.run.path.name == run.path.name
    assert (session.run.path / CHECKPOINT_CARD).is_file()


def test_weights_that_are_there_are_not_trained_again(preact_run: RunDirectory) -> None:
    session = session_from_options(RunOptions(run_dir=preact_run.path))
    before = (preact_run.path / CHECKPOINT).read_bytes()
    trained_unless_done(session, TrainingOptions(), None, None)
    assert (preact_run.path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("training", "seed"),
    [(TrainingOptions(epochs=1), None), (TrainingOptions(peak_rate=0.1), None), (TrainingOptions(), 5)],
)
def test_an_option_of_training_is_not_passed_over(
    preact_run: RunDirectory, training: TrainingOptions, seed: int | None
) -> None:
    session = session_from_options(RunOptions(run_dir=preact_run.path))
    with pytest.raises(UserError, match="other trained weights"):
        trained_unless_done(session, training, None, seed)


def test_recipe_options_replace_what_they_name(here: Path) -> None:
    session = session_from_options(EIGHT)
    digits = recipe_from_name("digits", 8)
    assert recipe_from_options(session, TrainingOptions()) == digits
    assert recipe_from_options(session, TrainingOptions(epochs=7)) == replace(digits, epochs=7)
    assert recipe_from_options(session, TrainingOptions(peak_rate=0.3)) == replace(digits, peak_rate=0.3)
    paper = recipe_from_options(session, TrainingOptions(recipe="paper"))
    assert paper == recipe_from_name("paper", 8)
    with pytest.raises(UserError, match="--epochs 0 trains nothing"):
        recipe_from_options(session, TrainingOptions(epochs=0))


def test_execution_options_reach_the_training() -> None:
    execution = execution_from_options(ExecutionOptions(), None)
    assert (execution.device, execution.arithmetic, execution.recompute) == ("cpu", None, None)
    assert (execution.compiled, execution.resume) == (False, True)
    given = ExecutionOptions(arithmetic=Arithmetic.fp32, recompute=False, compiled=True, resume=False)
    execution = execution_from_options(given, Device.cuda)
    assert (execution.device, execution.arithmetic, execution.recompute) == ("cuda", "fp32", False)
    assert (execution.compiled, execution.resume) == (True, False)


def test_force_is_off_unless_it_is_given() -> None:
    assert RedoOptions().force is False
