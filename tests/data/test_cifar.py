import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import CIFAR10_DIR, needs_cifar10
from PIL import Image

from data.cifar import SOURCES, cifar
from data.dataset import Dataset, image_hashes
from errors import UserError

TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
NAMES = [f"name {label}" for label in range(10)]

Row = dict[str, Any]


def png(pixels: np.ndarray) -> bytes:
    """Return the encoded picture of an array [3, H, W]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "png")
    return buffer.getvalue()


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def rows(count: int, seed: int, label: str = "label", classes: int = 10) -> list[Row]:
    return [
        {"img": {"bytes": png(image), "path": None}, label: index % classes}
        for index, image in enumerate(pixels(count, seed))
    ]


def schema(label: str = "label", names: list[str] | None = None) -> pa.Schema:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    metadata = None
    if names:
        features = {"img": {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("img", image), (label, pa.int64())], metadata=metadata)


def write(path: Path, content: list[Row], described: pa.Schema | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content, schema=described or schema(names=NAMES)), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a small CIFAR-10 with 40 training and 20 test images."""
    write(tmp_path / "cifar10" / TRAIN, rows(40, seed=0))
    write(tmp_path / "cifar10" / TEST, rows(20, seed=1))
    return tmp_path / "cifar10"


def test_cifar10_from_a_folder(folder: Path) -> None:
    dataset = cifar("cifar10", folder)
    assert dataset.name == "cifar10"
    assert dataset.classes == tuple(NAMES)
    assert np.array_equal(dataset.test.images, pixels(20, seed=1))
    assert dataset.test.labels.tolist() == [*range(10), *range(10)]
    assert dataset.test.labels.dtype == np.int64
    assert dataset.test.labels.flags.writeable, "torch warns of arrays that are not"
    training = set(image_hashes(pixels(40, seed=0)))
    assert set(image_hashes(dataset.train.images)) | set(image_hashes(dataset.calibration.images)) == training
    assert len(dataset.train) + len(dataset.calibration) == 40


def test_files_in_a_subfolder_are_found(folder: Path) -> None:
    assert cifar("cifar10", folder.parent).sha256 == cifar("cifar10", folder).sha256


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    names = [f"fine {label}" for label in range(100)]
    described = schema("fine_label", names).append(pa.field("coarse_label", pa.int64()))
    for file, count, seed in ((TRAIN, 400, 0), (TEST, 100, 1)):
        content = [row | {"coarse_label": 0} for row in rows(count, seed, "fine_label", 100)]
        write(tmp_path / file, content, described)
    dataset = cifar("cifar100", tmp_path)
    assert dataset.name == "cifar100"
    assert dataset.classes == tuple(names)
    assert dataset.test.labels.tolist() == list(range(100))


@pytest.mark.parametrize(
    "metadata", [None, {"huggingface": "no json"}, {"huggingface": "{}"}, {"pandas": "{}"}]
)
def test_classes_are_numbered_where_the_schema_names_none(
    folder: Path, metadata: dict[str, str] | None
) -> None:
    for file, count, seed in ((TRAIN, 40, 0), (TEST, 20, 1)):
        write(folder / file, rows(count, seed), schema().with_metadata(metadata))
    assert cifar("cifar10", folder).classes == tuple(f"class {label}" for label in range(10))


def test_progress_is_told_of_every_image(folder: Path) -> None:
    seen: dict[str, int] = {}

    def progress(items: Any, description: str, total: int | None = None) -> Any:
        for item in items:
            seen[description] = seen.get(description, 0) + 1
            yield item
        assert seen[description] == total

    cifar("cifar10", folder, progress)
    assert list(seen.values()) == [40, 20]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder: give --data-dir the folder that"):
        cifar("cifar10", tmp_path / "nowhere")


@pytest.mark.parametrize("file", [TRAIN, TEST])
def test_a_missing_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"holds no {file}"):
        cifar("cifar10", folder)


@pytest.mark.parametrize("file", [TRAIN, TEST])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1], lambda b: b"", lambda b: b"PAR1"]
)
def test_a_truncated_file(folder: Path, file: str, damage: Callable[[bytes], bytes]) -> None:
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    with pytest.raises(UserError, match=f"{file} cannot be read as parquet") as error:
        cifar("cifar10", folder)
    assert error.value.fix == "fetch it again"
    assert "\n" not in str(error.value)


def test_a_file_whose_pages_are_damaged(folder: Path) -> None:
    content = bytearray((folder / TRAIN).read_bytes())
    content[1000:2000] = bytes(1000)
    (folder / TRAIN).write_bytes(content)
    with pytest.raises(UserError, match=TRAIN):
        cifar("cifar10", folder)


@pytest.mark.parametrize(
    "table",
    [
        {"image": [b""], "label": [0]},
        {"img": [{"bytes": b""}], "fine_label": [0]},
        {"img": [{"bytes": 5}], "label": [0]},
        {"img": [b"bytes without a struct"], "label": [0]},
        {"img": ["a/path.png"], "label": [0]},
        {"img": [{"path": "a/path.png"}], "label": [0]},
        {"img": [{"bytes": b""}], "label": ["airplane"]},
        {"img": [{"bytes": b""}], "label": [0.5]},
    ],
    ids=[
        "no img",
        "no label",
        "bytes are a number",
        "img is binary",
        "img is text",
        "img has no bytes",
        "label is text",
        "label is a fraction",
    ],
)
def test_wrong_columns(folder: Path, table: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(table), folder / TRAIN)
    with pytest.raises(UserError, match="cannot be read as parquet with columns img and label"):
        cifar("cifar10", folder)


def test_cifar10_files_given_for_cifar100(folder: Path) -> None:
    with pytest.raises(UserError, match="columns img and fine_label"):
        cifar("cifar100", folder)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", png(pixels(1, 0)[0])[:-200]], ids=["empty", "text", "cut"]
)
def test_a_row_that_is_no_image_is_named(folder: Path, content: bytes) -> None:
    damaged = rows(40, seed=0)
    damaged[17]["img"]["bytes"] = content
    write(folder / TRAIN, damaged)
    with pytest.raises(UserError, match=f"{TRAIN}, row 17, is not a readable image"):
        cifar("cifar10", folder)


@pytest.mark.parametrize("null", [None, {"bytes": None, "path": "elsewhere.png"}])
def test_a_row_without_an_image(folder: Path, null: Row | None) -> None:
    damaged = rows(40, seed=0)
    damaged[3]["img"] = null
    write(folder / TRAIN, damaged)
    with pytest.raises(UserError, match=f"{TRAIN} has rows without an image or a label"):
        cifar("cifar10", folder)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("label", [None, -1, 10])
def test_a_row_without_a_label_of_this_data_set(folder: Path, label: int | None) -> None:
    damaged = rows(40, seed=0)
    damaged[3]["label"] = label
    write(folder / TRAIN, damaged)
    with pytest.raises(UserError, match="label"):
        cifar("cifar10", folder)


def test_a_file_without_rows(folder: Path) -> None:
    write(folder / TEST, [])
    with pytest.raises(UserError, match="cifar10 has no test images"):
        cifar("cifar10", folder)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("no route to host\nand more lines"), "no route to host"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (RuntimeError(""), "RuntimeError"),
        (ValueError("  \n"), "ValueError"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", SOURCES)
def test_a_hub_out_of_reach(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, reason: str
) -> None:
    def unreachable(*args: object, **options: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(UserError) as caught:
        cifar(name, None)
    assert caught.value.problem == f"{name} could not be fetched from the Hugging Face hub ({reason})"
    assert "--data-dir" in caught.value.fix
    assert TRAIN in caught.value.fix


def test_files_are_fetched_from_the_named_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str, repo_type: str) -> str:
        asked.append((repository, file, repo_type))
        return str(folder / Path(file).name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert cifar("cifar10", None).sha256 == cifar("cifar10", folder).sha256
    assert asked == [("uoft-cs/cifar10", f"plain_text/{file}", "dataset") for file in (TRAIN, TEST)]


@needs_cifar10
def test_the_real_cifar10() -> None:
    dataset: Dataset = cifar("cifar10", CIFAR10_DIR)
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (49_000, 1_000, 10_000)
    assert np.bincount(dataset.train.labels).tolist() == [4_900] * 10
    assert np.bincount(dataset.calibration.labels).tolist() == [100] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1_000] * 10
    # These values are published for the training set. Those of a compressed copy differ in the third decimal.
    np.testing.assert_allclose(dataset.mean, (0.4914, 0.4822, 0.4465), rtol=0, atol=0.003)
    np.testing.assert_allclose(dataset.std, (0.2470, 0.2435, 0.2616), rtol=0, atol=0.003)
    assert dataset.classes[0] == "airplane"
    assert dataset.classes[9] == "truck"
