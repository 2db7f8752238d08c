"""CIFAR-10 and CIFAR-100 in the parquet layout of `uoft-cs/cifar10` and `uoft-cs/cifar100`.

The files `train-00000-of-00001.parquet` and `test-00000-of-00001.parquet` hold a column `img` (a struct
with `bytes`) and a column of labels. They are read from a folder, or fetched from the Hugging Face hub.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from data.dataset import Dataset, Split, dataset_from_splits
from data.images import images_from_bytes
from errors import UserError
from progress import Progress, silent
from vocabulary import DatasetName

_FILES = {"train": "train-00000-of-00001.parquet", "test": "test-00000-of-00001.parquet"}


@dataclass(frozen=True)
class Source:
    """Where a data set lies on the hub, and the name of the column that holds its labels."""

    repository: str
    folder: str
    label: str
    num_classes: int


SOURCES: dict[str, Source] = {
    DatasetName.cifar10: Source("uoft-cs/cifar10", "plain_text", "label", 10),
    DatasetName.cifar100: Source("uoft-cs/cifar100", "cifar100", "fine_label", 100),
}


def cifar(name: str, data_dir: Path | None, progress: Progress = silent) -> Dataset:
    """Return CIFAR-10 or CIFAR-100.

    Args:
        name: "cifar10" or "cifar100".
        data_dir: a folder that holds the two files, or has a subfolder that does. If None, the files are
            fetched from the hub.

    Raises:
        UserError: a file is missing, truncated or of another data set, or the hub cannot be reached.
    """
    source = SOURCES[name]
    splits, class_names = {}, None
    for split, file in _FILES.items():
        path = _path_in(data_dir, file) if data_dir else _fetched(name, source, file)
        splits[split], names_in_file = _split_from_parquet(path, source, progress)
        class_names = class_names or names_in_file
    classes = class_names or [f"class {label}" for label in range(source.num_classes)]
    return dataset_from_splits(name, classes, splits["train"], splits["test"])


def _path_in(data_dir: Path, file: str) -> Path:
    if not data_dir.is_dir():
        raise UserError(f"{data_dir} is not a folder", f"give --data-dir the folder that holds {file}")
    for candidate in (data_dir / file, *sorted(data_dir.glob(f"*/{file}"))):
        if candidate.is_file():
            return candidate
    raise UserError(f"{data_dir} holds no {file}", "give --data-dir the folder of the two parquet files")


def _fetched(name: str, source: Source, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(source.repository, f"{source.folder}/{file}", repo_type="dataset")
    except Exception as error:  # The client raises errors of three kinds: the hub's, HTTP and OS.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{name} could not be fetched from the Hugging Face hub ({reason})",
            f"give a folder that holds {file} with --data-dir",
        ) from error
    return Path(path)


def _split_from_parquet(path: Path, source: Source, progress: Progress) -> tuple[Split, list[str] | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        contents = table.column("img").combine_chunks().field("bytes").cast(pa.binary()).to_pylist()
        labels = table.column(source.label).cast(pa.int64())
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} cannot be read as parquet with columns img and {source.label} ({reason})",
            "fetch it again",
        ) from error
    if labels.null_count or any(content is None for content in contents):
        raise UserError(f"{path} has rows without an image or a label", "fetch it again")
    split = Split(images_from_bytes(contents, str(path), progress), labels.to_numpy().copy())
    return split, _class_names(table.schema.metadata, source.label)


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    """Return the class names that the `datasets` library writes into the schema, or None without them."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[label]["names"])
    except (KeyError, ValueError, TypeError):
        return None
