"""The stage `analyze`: the measurements, the freshness of the files and the refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from system_encodings import set_ascii

from analysis.both_variants import analysis_from_networks, spread
from artifacts.json_codec import to_json
from artifacts.names import ANALYSIS, ANALYSIS_FILES, CHECKPOINT
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import model_in
from models.config import VARIANTS, resnet_config
from models.resnet import initialised
from training.checkpoints import checkpoint_from_initialisation

CONFIG = resnet_config("preact", 8)


@pytest.fixture
def runs(trained_runs: dict[str, Path]) -> dict[str, RunDirectory]:
    return {variant: RunDirectory(path) for variant, path in trained_runs.items()}


def test_both_variants_before_and_after_training(
    digits: Dataset, runs: dict[str, RunDirectory], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "analysis")
    # With 16 images a few wrong answers cannot make the loss of a trained network larger than an untrained
    # one's.
    analysis, done = analysis_from_networks(run, digits, CONFIG, runs, images=16)
    assert done
    assert to_json(analysis) == json.loads(run.verified(ANALYSIS).read_text())
    states = [(network.variant, network.trained) for network in analysis.networks]
    assert states == [(variant, trained) for variant in VARIANTS for trained in (False, True)]
    losses = {(n.variant, n.trained): n.loss for n in analysis.networks}
    for variant in VARIANTS:
        assert losses[variant, True] < losses[variant, False]
    assert run.recorded() == sorted(ANALYSIS_FILES)


def test_up_to_date_until_an_option_or_a_checkpoint_changes(
    digits: Dataset, runs: dict[str, RunDirectory], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "analysis")
    first, _ = analysis_from_networks(run, digits, CONFIG, {}, images=4)
    assert analysis_from_networks(run, digits, CONFIG, {}, images=4) == (first, False)
    assert analysis_from_networks(run, digits, CONFIG, {}, images=4, force=True) == (first, True)
    assert analysis_from_networks(run, digits, CONFIG, {}, images=5)[1]
    assert analysis_from_networks(run, digits, CONFIG, {}, images=5, seed=1)[1]
    one = {"preact": runs["preact"]}
    assert analysis_from_networks(run, digits, CONFIG, one, images=5, seed=1)[1]
    assert not analysis_from_networks(run, digits, CONFIG, one, images=5, seed=1)[1]


def test_plots_are_utf8_whatever_the_system_uses(
    monkeypatch: pytest.MonkeyPatch, digits: Dataset, tmp_path: Path
) -> None:
    """matplotlib writes negative exponents with a minus sign, which cp1252 does not have."""
    set_ascii(monkeypatch)
    run = RunDirectory(tmp_path / "analysis")
    analysis_from_networks(run, digits, CONFIG, {}, images=4)
    plots = [run.verified(name).read_text(encoding="utf-8") for name in ANALYSIS_FILES if name != ANALYSIS]
    assert any("\N{MINUS SIGN}" in plot for plot in plots)


def test_untrained_checkpoints_are_passed_over(digits: Dataset, tmp_path: Path) -> None:
    untrained = RunDirectory(tmp_path / "network")
    checkpoint_from_initialisation(untrained, CONFIG, digits, seed=3)
    run = RunDirectory(tmp_path / "analysis")
    analysis, _ = analysis_from_networks(run, digits, CONFIG, {"preact": untrained}, 4)
    assert [network.trained for network in analysis.networks] == [False, False]


def test_a_damaged_checkpoint_is_not_measured(
    preact_run: RunDirectory, digits: Dataset, tmp_path: Path
) -> None:
    (preact_run.path / CHECKPOINT).write_bytes(b"damaged")
    run = RunDirectory(tmp_path / "analysis")
    with pytest.raises(UserError, match="sha256 differs"):
        analysis_from_networks(run, digits, CONFIG, {"preact": preact_run}, 4)
    assert ANALYSIS not in run


def test_initialised_weights_are_those_that_training_begins_with(digits: Dataset, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    model = initialised(CONFIG, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    run = RunDirectory(tmp_path)
    checkpoint_from_initialisation(run, CONFIG, digits, seed=3)
    written = dict(model_in(run)[0].named_parameters())
    assert all(torch.equal(value, written[name]) for name, value in model.named_parameters())


def test_the_batch_is_spread_over_a_split_sorted_by_class() -> None:
    np.testing.assert_array_equal(spread(10, 4), [0, 3, 6, 9])
    np.testing.assert_array_equal(spread(3, 3), [0, 1, 2])


@pytest.mark.parametrize("images", [-1, 0, 1, 11])
def test_too_few_or_too_many_images_are_refused(images: int) -> None:
    with pytest.raises(UserError, match="has 10"):
        spread(10, images)


def test_a_network_without_identity_skips_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ResNet-11 has a projection"):
        analysis_from_networks(RunDirectory(tmp_path), digits, resnet_config("preact", 11), {})
