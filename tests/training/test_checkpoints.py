import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import UserError
from models.checkpoint import card_in, model_in
from models.config import VARIANTS, resnet_config
from models.resnet import ResNet
from training.checkpoints import (
    checkpoint_from_files,
    checkpoint_from_initialisation,
    new_checkpoint_card,
    refuse_to_replace,
    require_same_network,
    write_checkpoint,
)

CONFIG = resnet_config("preact", 8)


def initialised(path: Path, dataset: Dataset, seed: int = 0, variant: str = "preact") -> RunDirectory:
    run = RunDirectory(path)
    checkpoint_from_initialisation(run, resnet_config(variant, 8), dataset, seed)
    return run


def trained(path: Path, dataset: Dataset) -> RunDirectory:
    """Return a run whose card says that the weights were trained."""
    torch.manual_seed(7)
    run = RunDirectory(path)
    with run.writing(Step("train", {}, (), (CHECKPOINT, CHECKPOINT_CARD))) as folder:
        write_checkpoint(
            folder, ResNet(CONFIG), new_checkpoint_card(CONFIG, dataset, trained=True, training={"seed": 7})
        )
    return run


def weights(run: RunDirectory) -> bytes:
    return run.verified(CHECKPOINT).read_bytes()


def elsewhere(folder: Path, run: RunDirectory) -> Path:
    """Copy the two files of a run under the name `mine`; return the path of the weights."""
    folder.mkdir(exist_ok=True)
    shutil.copy(run.verified(CHECKPOINT), folder / "mine.safetensors")
    shutil.copy(run.verified(CHECKPOINT_CARD), folder / "mine.json")
    return folder / "mine.safetensors"


def test_initialised_weights_are_recorded_as_untrained(digits: Dataset, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    card = checkpoint_from_initialisation(run, CONFIG, digits, seed=0)
    assert card == card_in(run)
    assert not card.trained
    assert card.training == {}
    assert card.model == CONFIG
    assert (card.dataset, card.classes, card.mean, card.std) == (
        "digits", digits.classes, digits.mean, digits.std,
    )  # fmt: skip
    assert run.record(CHECKPOINT).stage == "initialise"


def test_the_seed_decides_initialised_weights(digits: Dataset, tmp_path: Path) -> None:
    first = initialised(tmp_path / "first", digits)
    torch.manual_seed(99)
    assert weights(initialised(tmp_path / "same", digits)) == weights(first)
    assert weights(initialised(tmp_path / "other", digits, seed=1)) != weights(first)


def test_initialising_again_writes_nothing(digits: Dataset, tmp_path: Path) -> None:
    run = initialised(tmp_path / "run", digits)
    before = (run.path / CHECKPOINT).stat().st_mtime_ns
    initialised(run.path, digits)
    assert (run.path / CHECKPOINT).stat().st_mtime_ns == before


def test_convolutions_are_those_of_a_fresh_network(digits: Dataset, tmp_path: Path) -> None:
    loaded, _ = model_in(initialised(tmp_path / "run", digits))
    torch.manual_seed(0)
    fresh = ResNet(CONFIG)
    for (name, parameter), expected in zip(loaded.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(parameter, expected), name


def test_bn_statistics_are_those_of_calibration_images(digits: Dataset, tmp_path: Path) -> None:
    model, _ = model_in(initialised(tmp_path / "run", digits, variant="original"))
    with torch.no_grad():
        images = torch.from_numpy(digits.normalised(digits.calibration.images[:32]))
        stem = model.stem.conv(images)
    bn = model.stem.bn
    torch.testing.assert_close(bn.running_mean, stem.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bn.running_var, stem.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_deep_initialised_networks_give_sane_outputs(digits: Dataset, tmp_path: Path, variant: str) -> None:
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_initialisation(run, resnet_config(variant, 164), digits, seed=0)
    model, _ = model_in(run)
    images = torch.from_numpy(digits.normalised(digits.test.images[:4]))
    with torch.no_grad():
        logits = model(images)
        stock = ResNet(resnet_config(variant, 164)).eval()(images)
    assert logits.isfinite().all()
    assert logits.abs().max() < 100
    assert logits.std(dim=0).max() > 0, "the network tells images apart"
    # The statistics are measured because without them the stream grows from block to block.
    assert not stock.abs().max() < 1e4


@pytest.mark.parametrize("variant", VARIANTS)
def test_import_takes_over_weights_and_card(digits: Dataset, tmp_path: Path, variant: str) -> None:
    source = initialised(tmp_path / "source", digits, variant=variant)
    path = elsewhere(tmp_path / "elsewhere", source)
    run = RunDirectory(tmp_path / "run")
    assert checkpoint_from_files(run, path)
    assert card_in(run) == card_in(source)
    assert run.record(CHECKPOINT).stage == "import"
    expected = load_file(source.verified(CHECKPOINT))
    for name, value in load_file(run.verified(CHECKPOINT)).items():
        assert torch.equal(value, expected[name]), name


def test_importing_the_same_files_again_does_nothing(digits: Dataset, tmp_path: Path) -> None:
    path = elsewhere(tmp_path / "elsewhere", initialised(tmp_path / "source", digits))
    run = RunDirectory(tmp_path / "run")
    assert checkpoint_from_files(run, path)
    assert not checkpoint_from_files(run, path)
    assert not checkpoint_from_files(RunDirectory(run.path), path)
    assert checkpoint_from_files(run, path, force=True)


def test_a_changed_card_beside_the_same_weights_is_taken_over(digits: Dataset, tmp_path: Path) -> None:
    path = elsewhere(tmp_path / "elsewhere", initialised(tmp_path / "source", digits))
    run = RunDirectory(tmp_path / "run")
    checkpoint_from_files(run, path)
    card = replace(card_in(run), mean=(0.5, 0.5, 0.5))
    path.with_suffix(".json").write_text(card.to_json())
    assert checkpoint_from_files(run, path)
    assert card_in(run).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("missing", [".safetensors", ".json"])
def test_importing_half_a_checkpoint(digits: Dataset, tmp_path: Path, missing: str) -> None:
    path = elsewhere(tmp_path / "elsewhere", initialised(tmp_path / "source", digits))
    path.with_suffix(missing).unlink()
    with pytest.raises(UserError, match=f"mine{missing} does not exist"):
        checkpoint_from_files(RunDirectory(tmp_path / "run"), path)
    assert not (tmp_path / "run").exists()


def test_importing_weights_that_do_not_fit_leaves_the_run_alone(digits: Dataset, tmp_path: Path) -> None:
    run = initialised(tmp_path / "run", digits)
    before = weights(run)
    path = elsewhere(tmp_path / "elsewhere", run)
    card = json.loads(path.with_suffix(".json").read_text())
    card["model"]["depth"] = 14
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="holds the weights of another network than preact ResNet-14"):
        checkpoint_from_files(run, path, force=True)
    assert weights(RunDirectory(run.path)) == before


def test_import_replaces_trained_weights_only_by_force(digits: Dataset, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", digits)
    path = elsewhere(tmp_path / "elsewhere", initialised(tmp_path / "source", digits))
    before = weights(run)
    with pytest.raises(UserError, match="holds other trained weights") as error:
        checkpoint_from_files(run, path)
    assert "--force" in error.value.fix
    assert weights(RunDirectory(run.path)) == before
    assert checkpoint_from_files(run, path, force=True)
    assert not card_in(run).trained


def test_import_replaces_untrained_weights(digits: Dataset, tmp_path: Path) -> None:
    run = initialised(tmp_path / "run", digits)
    source = trained(tmp_path / "source", digits)
    assert checkpoint_from_files(run, elsewhere(tmp_path / "elsewhere", source))
    assert card_in(run).trained
    assert card_in(run).training == {"seed": 7}


def test_refusal_is_for_trained_and_intact_weights_only(digits: Dataset, tmp_path: Path) -> None:
    refuse_to_replace(RunDirectory(tmp_path / "empty"))
    refuse_to_replace(initialised(tmp_path / "untrained", digits))
    run = trained(tmp_path / "trained", digits)
    with pytest.raises(UserError, match="holds other trained weights"):
        refuse_to_replace(run)
    (run.path / CHECKPOINT).write_bytes(b"damaged")
    refuse_to_replace(run)


@pytest.mark.parametrize(
    ("config", "dataset", "named"),
    [
        (resnet_config("original", 8), "digits", "not original ResNet-8"),
        (resnet_config("preact", 14), "digits", "not preact ResNet-14"),
        (resnet_config("preact", 20, "bottleneck"), "digits", r"not preact ResNet-20 \(bottleneck"),
        (resnet_config("preact", 8, num_classes=4), "digits", r"not preact ResNet-8 \(basic, 4 classes"),
        (CONFIG, "cifar10", "10 classes, cifar10"),
    ],
)
def test_another_network_than_asked_for(digits: Dataset, config: object, dataset: str, named: str) -> None:
    card = new_checkpoint_card(CONFIG, digits, trained=False)
    require_same_network(card, CONFIG, "digits", Path("runs/mine"))
    with pytest.raises(UserError, match=rf"runs/mine holds a preact ResNet-8 \(basic.*{named}") as error:
        require_same_network(card, config, dataset, Path("runs/mine"))
    assert "--run-dir" in error.value.fix
