"""`predict`: classes of pictures."""

from pathlib import Path

import numpy as np
from command_line import DEPTH, Skipfold, assert_refused
from PIL import Image

from artifacts.run_directory import RunDirectory
from data.dataset import Dataset


def test_predict_names_the_class(
    skipfold: Skipfold, preact_run: RunDirectory, digits: Dataset, tmp_path: Path
) -> None:
    for index in range(8):
        pixels = digits.test.images[index].transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    pictures = [tmp_path / f"{index}.png" for index in range(8)]
    found = {}
    for precision in ("fp32", "int8"):
        outcome = skipfold("predict", *pictures, *DEPTH, "--precision", precision, "--top", 1, "--json")
        found[precision] = [entry["classes"][0]["class"] for entry in outcome.document["predictions"]]
    right = np.array(found["fp32"]) == digits.test.labels[:8].astype(str)
    assert right.mean() >= 0.75
    assert sum(a == b for a, b in zip(found["fp32"], found["int8"], strict=True)) >= 7


def test_a_picture_that_is_none(skipfold: Skipfold, preact_run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_text("not a cat")
    assert_refused(skipfold("predict", tmp_path / "cat.png"), "cat.png is not a readable image")
    assert_refused(skipfold("predict", tmp_path / "dog.png"), "dog.png cannot be read")
