from pathlib import Path

import pytest

from data.dataset import Dataset
from data.load import DATASETS, dataset_from_name
from errors import UserError


def test_names() -> None:
    assert DATASETS == ("digits", "cifar10", "cifar100", "imagefolder")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        UserError, match="unknown data set 'mnist': use digits or cifar10 or cifar100 or imagefolder"
    ):
        dataset_from_name("mnist")


def test_digits_need_no_folder(digits: Dataset) -> None:
    assert digits.name == "digits"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagefolder"])
def test_the_folder_and_the_progress_reach_the_loader(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def loader(*arguments: object) -> tuple[object, ...]:
        return arguments

    def progress(items: object, description: str, total: int | None = None) -> object:
        return items

    monkeypatch.setattr("data.load.cifar", loader)
    monkeypatch.setattr("data.load.imagefolder", loader)
    expected = (Path("here"), progress) if name == "imagefolder" else (name, Path("here"), progress)
    assert dataset_from_name(name, Path("here"), progress) == expected


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagefolder"])
def test_a_folder_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        dataset_from_name(name, tmp_path / "nowhere")
