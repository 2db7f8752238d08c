import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset, image_hashes
from data.imagefolder import imagefolder
from errors import UserError

CLASSES = ("bee", "ant", "cat")  # The order is not alphabetical.
LAYOUTS = ("one folder", "train and test")


def fill(folder: Path, count: int, seed: int) -> None:
    """Write random 32x32 pictures of one class."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = generator.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A folder DIR/<class>/* with ten pictures a class."""
    for seed, name in enumerate(CLASSES):
        fill(tmp_path / "flat" / name, 10, seed)
    return tmp_path / "flat"


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """Folders DIR/train/<class>/* and DIR/test/<class>/* with eight and three pictures a class."""
    for seed, name in enumerate(CLASSES):
        fill(tmp_path / "parted/train" / name, 8, seed)
        fill(tmp_path / "parted/test" / name, 3, 10 + seed)
    return tmp_path / "parted"


def hashes_of(folder: Path) -> set[bytes]:
    pictures = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in folder.rglob("*.png")]
    return set(image_hashes(np.stack(pictures)))


def labelled(dataset: Dataset) -> list[set[tuple[bytes, int]]]:
    """Return the hashes of the pictures with their labels: of train, calibration and test."""
    return [
        set(zip(image_hashes(part.images), part.labels.tolist(), strict=True))
        for part in (dataset.train, dataset.calibration, dataset.test)
    ]


def test_classes_are_the_sorted_folder_names(flat: Path, parted: Path) -> None:
    assert imagefolder(flat).classes == imagefolder(parted).classes == ("ant", "bee", "cat")


def test_one_folder_a_class_is_cut_in_five(flat: Path) -> None:
    dataset = imagefolder(flat)
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (12, 12, 6)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2]
    assert np.bincount(dataset.calibration.labels).tolist() == [4, 4, 4]
    train, calibration, test = labelled(dataset)
    assert len(train | calibration | test) == 30, "no picture stands in two splits"
    for label, name in enumerate(sorted(CLASSES)):
        of_class = {(digest, label) for digest in hashes_of(flat / name)}
        assert of_class <= train | calibration | test


def test_the_test_pictures_are_those_with_the_smallest_hashes(flat: Path) -> None:
    test = labelled(imagefolder(flat))[2]
    for label, name in enumerate(sorted(CLASSES)):
        assert {digest for digest, test_label in test if test_label == label} == set(
            sorted(hashes_of(flat / name))[:2]
        )


def test_given_train_and_test_folders_are_kept(parted: Path) -> None:
    dataset = imagefolder(parted)
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (12, 12, 9)
    assert set(image_hashes(dataset.test.images)) == hashes_of(parted / "test")
    trained_on = image_hashes(dataset.train.images) + image_hashes(dataset.calibration.images)
    assert set(trained_on) == hashes_of(parted / "train")


def test_the_cut_is_the_same_each_time(flat: Path) -> None:
    assert imagefolder(flat).sha256 == imagefolder(flat).sha256


def test_the_cut_does_not_depend_on_file_names(flat: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    for name in CLASSES:
        (renamed / name / "deeper").mkdir(parents=True)
        for path in (flat / name).iterdir():
            shutil.copy(path, renamed / name / "deeper" / f"{99 - int(path.stem)}.PNG")
    assert labelled(imagefolder(renamed)) == labelled(imagefolder(flat))


def test_other_files_are_passed_over(flat: Path) -> None:
    expected = imagefolder(flat).sha256
    (flat / "README.txt").write_text("about the pictures")
    (flat / "ant" / "Thumbs.db").write_text("no picture")
    (flat / "ant" / "labels.csv").write_text("no picture")
    assert imagefolder(flat).sha256 == expected


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (5, 9)])
@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("P", "gif"), ("RGB", "jpg")])
def test_pictures_of_other_sizes_and_modes(flat: Path, mode: str, suffix: str, size: tuple[int, int]) -> None:
    for value in range(200, 210):
        Image.new("RGBA", size, (value, value, value, 7)).convert(mode).save(
            flat / "ant" / f"{value}.{suffix}"
        )
    dataset = imagefolder(flat)
    assert len(dataset.train) + len(dataset.calibration) + len(dataset.test) == 40
    images = np.concatenate([part.images for part in (dataset.train, dataset.calibration, dataset.test)])
    assert images.shape[1:] == (3, 32, 32)
    even = images[(images == images[:, :1, :1, :1]).all(axis=(1, 2, 3))]
    assert len(even) == 10, "the plain pictures are still plain, and grey"
    assert even.min() >= 195


@pytest.mark.parametrize("damage", [lambda b: b[:-60], lambda b: b"no picture", lambda b: b""])
def test_a_corrupted_picture_is_named(flat: Path, damage: Callable[[bytes], bytes]) -> None:
    path = flat / "bee" / "04.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"bee/04\.png is not a readable image"):
        imagefolder(flat)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_without_pictures(flat: Path, parted: Path, layout: str) -> None:
    folder = flat if layout == "one folder" else parted
    empty = folder / ("dog" if layout == "one folder" else "train/dog")
    empty.mkdir()
    (empty / "notes.txt").write_text("none yet")
    with pytest.raises(UserError, match="dog holds no pictures: remove the folder or fill it"):
        imagefolder(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("classes", [0, 1])
def test_fewer_than_two_classes(tmp_path: Path, layout: str, classes: int) -> None:
    for part in (".",) if layout == "one folder" else ("train", "test"):
        (tmp_path / "few" / part).mkdir(parents=True, exist_ok=True)
        for name in CLASSES[:classes]:
            fill(tmp_path / "few" / part / name, 3, seed=0)
    with pytest.raises(UserError, match=f"holds {classes} class folders"):
        imagefolder(tmp_path / "few")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_in_one_of_the_two_folders_only(parted: Path, part: str) -> None:
    fill(parted / part / "dog", 3, seed=99)
    with pytest.raises(UserError, match="class 'dog' is not in both"):
        imagefolder(parted)


@pytest.mark.parametrize(("present", "absent"), [("train", "test"), ("test", "train")])
def test_one_of_train_and_test_alone(parted: Path, present: str, absent: str) -> None:
    shutil.rmtree(parted / absent)
    with pytest.raises(UserError, match=f"{present} is there and .*{absent} is not: add"):
        imagefolder(parted)


def test_test_pictures_that_are_training_pictures_are_not_calibrated_on(parted: Path) -> None:
    for name in CLASSES:
        for path in sorted((parted / "train" / name).iterdir())[:5]:
            shutil.copy(path, parted / "test" / name / f"copy-{path.name}")
    calibration, test = labelled(imagefolder(parted))[1:]
    assert calibration
    assert not calibration & test


@pytest.mark.parametrize("data_dir", [None, "nowhere", "a file"])
def test_no_folder(tmp_path: Path, data_dir: str | None) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(UserError, match="folder"):
        imagefolder(data_dir and tmp_path / data_dir)


def test_class_with_one_picture_cannot_be_split(tmp_path):
    for name, count in (("cat", 4), ("dog", 1)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (32, 32), (index * 40, 9, 200)).save(tmp_path / name / f"{index}.png")
    with pytest.raises(UserError, match="'dog' has one picture"):
        imagefolder(tmp_path)
