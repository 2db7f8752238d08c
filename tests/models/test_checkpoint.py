import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from artifacts.names import CHECKPOINT, CHECKPOINT_CARD
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from errors import UserError
from models.checkpoint import (
    CheckpointCard,
    bytes_from_weights,
    card_from_json,
    card_in,
    model_from_checkpoint,
    model_in,
)
from models.config import VARIANTS, resnet_config
from models.resnet import ResNet


def card(variant: str = "preact", depth: int = 8, num_classes: int = 10) -> CheckpointCard:
    return CheckpointCard(
        model=resnet_config(variant, depth, num_classes=num_classes),
        dataset="digits",
        classes=tuple(f"klasse ü {n}" for n in range(num_classes)),
        mean=(0.1, 1 / 3, 0.3),
        std=(0.2, 0.25, 0.7),
        trained=True,
        training={"seed": 3, "recipe": {"epochs": 2}},
    )


def written(folder: Path, described: CheckpointCard, model: ResNet | None = None) -> tuple[Path, Path]:
    weights, description = folder / CHECKPOINT, folder / CHECKPOINT_CARD
    torch.manual_seed(0)
    weights.write_bytes(bytes_from_weights(model or ResNet(described.model)))
    description.write_text(described.to_json())
    return weights, description


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The two files of a sound checkpoint, which a test may damage."""
    return written(tmp_path, card())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depth", [8, 11])
def test_round_trip(tmp_path: Path, variant: str, depth: int) -> None:
    described = card(variant, depth, num_classes=7)
    torch.manual_seed(0)
    model = ResNet(described.model)
    model(torch.randn(4, 3, 32, 32))  # This changes the running statistics of BN.
    loaded, loaded_card = model_from_checkpoint(*written(tmp_path, described, model))
    assert loaded_card == described
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[name], value), name


def test_weights_in_channels_last_memory_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ResNet(card().model).to(memory_format=torch.channels_last)
    loaded, _ = model_from_checkpoint(*written(tmp_path, card(), model))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ResNet(card().model)
    assert bytes_from_weights(model) == bytes_from_weights(model)


def test_the_json_is_readable_and_complete() -> None:
    document = json.loads(card().to_json())
    assert document["format"] == 1
    assert document["model"] == {
        "variant": "preact", "depth": 8, "block": "basic", "num_classes": 10, "in_channels": 3,
    }  # fmt: skip
    assert document["mean"] == [0.1, 1 / 3, 0.3]
    assert document["training"]["recipe"] == {"epochs": 2}
    assert card_from_json(card().to_json(), Path("checkpoint.json")) == card()


@pytest.mark.parametrize("missing", [0, 1], ids=["weights", "json"])
def test_a_missing_file(files: tuple[Path, Path], missing: int) -> None:
    files[missing].unlink()
    with pytest.raises(UserError, match=f"{files[missing].name} does not exist"):
        model_from_checkpoint(*files)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{}",
        b"\xff\xfe\x00",
        b'{"format": 1}',
        b'{"format": 1, "model": 3}',
    ],
)
def test_garbled_json(files: tuple[Path, Path], content: bytes) -> None:
    files[1].write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.json does not describe a checkpoint"):
        model_from_checkpoint(*files)


def without(name: str) -> Callable[[dict], None]:
    return lambda document: document.pop(name)


def with_value(value: object, *path: str) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("format"), "format"),
        (without("model"), "model"),
        (without("mean"), "mean"),
        (without("trained"), "trained"),
        (with_value(2, "format"), "another format"),
        (with_value("x", "unknown"), "unknown"),
        (with_value(None, "classes"), "does not describe a checkpoint"),
        (with_value("20", "model", "depth"), "does not describe a checkpoint"),
        (with_value(20.0, "model", "depth"), r"Expected `int`, got `float` - at `\$\.model\.depth`"),
        (with_value([0.5, 0.5], "mean"), "2 means and 3 deviations"),
        (with_value(3, "model", "width"), "width"),
        (with_value(21, "model", "depth"), "nearest depths"),
        (with_value("resnext", "model", "variant"), "unknown variant"),
        (with_value(["only one"], "classes"), "names 1 classes for 10 logits"),
    ],
)
def test_json_of_no_network(files: tuple[Path, Path], change: Callable[[dict], None], message: str) -> None:
    document = json.loads(card().to_json())
    change(document)
    files[1].write_text(json.dumps(document))
    with pytest.raises(UserError, match=message):
        model_from_checkpoint(*files)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (resnet_config("preact", 14), "stage1.1.preact.bn1.bias has no place"),
        (resnet_config("preact", 11), r"conv1.weight is \[16, 16, 1, 1\], not \[16, 16, 3, 3\]"),
        (resnet_config("original", 8), "stage1.0.preact.bn1.weight is missing"),
        (resnet_config("preact", 8, num_classes=11), r"classifier.weight is \[11, 64\], not \[10, 64\]"),
        (
            resnet_config("preact", 8, in_channels=1),
            r"stem.conv.weight is \[16, 1, 3, 3\], not \[16, 3, 3, 3\]",
        ),
    ],
    ids=["depth", "block", "variant", "classes", "channels"],
)
def test_weights_of_another_network(tmp_path: Path, other: object, difference: str) -> None:
    files = written(tmp_path, card(), ResNet(other))
    with pytest.raises(UserError, match=difference) as error:
        model_from_checkpoint(*files)
    assert "preact ResNet-8 (basic, 10 classes)" in error.value.problem
    assert CHECKPOINT in error.value.problem


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra has no place"),
        (lambda tensors: tensors.pop("head.bn.running_var"), "head.bn.running_var is missing"),
        (
            lambda tensors: tensors["classifier.bias"].fill_(torch.nan),
            "classifier.bias holds values that are not finite",
        ),
        (
            lambda tensors: tensors["stem.conv.weight"][3, 0, 0].fill_(torch.inf),
            "stem.conv.weight holds values",
        ),
        (
            lambda tensors: tensors["head.bn.running_mean"][0].fill_(-torch.inf),
            "head.bn.running_mean holds values",
        ),
    ],
    ids=["extra", "missing", "nan", "inf", "inf in a buffer"],
)
def test_weights_that_do_not_fit(
    files: tuple[Path, Path], change: Callable[[dict[str, torch.Tensor]], object], difference: str
) -> None:
    tensors = {name: value.clone() for name, value in ResNet(card().model).state_dict().items()}
    change(tensors)
    save_file(tensors, files[0])
    with pytest.raises(UserError, match=difference):
        model_from_checkpoint(*files)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(files: tuple[Path, Path], kept: int) -> None:
    files[0].write_bytes(files[0].read_bytes()[:kept])
    with pytest.raises(UserError, match="is not a readable safetensors file"):
        model_from_checkpoint(*files)


def test_a_pickle_is_refused_and_not_run(files: tuple[Path, Path], tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "was run",)

    for content in (pickle.dumps(Payload()), None):
        if content is None:
            torch.save(ResNet(card().model).state_dict(), files[0])
        else:
            files[0].write_bytes(content)
        with pytest.raises(UserError, match="is not a readable safetensors file"):
            model_from_checkpoint(*files)
    assert not (tmp_path / "was run").exists()


def test_weights_in_a_folder_of_that_name(files: tuple[Path, Path]) -> None:
    files[0].unlink()
    files[0].mkdir()
    with pytest.raises(UserError, match="does not exist"):
        model_from_checkpoint(*files)


def test_a_run_gives_its_checkpoint_only_while_it_is_intact(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match="has not been made"):
        model_in(run)
    with run.writing(Step("train", {}, (), (CHECKPOINT, CHECKPOINT_CARD))) as folder:
        written(folder, card())
    model, described = model_in(run)
    assert described == card_in(run) == card()
    assert model.config == card().model
    (run.path / CHECKPOINT_CARD).write_text(replace(card(), trained=False).to_json())
    with pytest.raises(UserError, match="sha256 differs"):
        model_in(run)
    with pytest.raises(UserError, match="sha256 differs"):
        card_in(run)
