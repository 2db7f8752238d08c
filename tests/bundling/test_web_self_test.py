"""The self-test of the page in headless Chromium fails whatever is changed, and passes where nothing is."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from browser import Browser, needs_chromium, needs_npm, served
from fault_injection import change_initializer
from PIL import Image
from web_pages import TESTED, description_of

pytestmark = [needs_chromium, needs_npm]
Change = Callable[[Path], None]


def _swap_two_classes(folder: Path) -> None:
    graph = onnx.load(folder / "model.onnx")
    for name in ("classifier.weight", "classifier.bias"):
        change_initializer(graph, name, lambda rows: rows[[1, 0, *range(2, len(rows))]])
    onnx.save(graph, folder / "model.onnx")


def _shift_the_normalisation(folder: Path) -> None:
    graph = onnx.load(folder / "model.onnx")
    change_initializer(graph, "pixels.shift", lambda shift: shift + 1)
    onnx.save(graph, folder / "model.onnx")


def _change_pixels(folder: Path) -> None:
    pixels = np.fromfile(folder / "golden" / "fitted.u8", np.uint8)
    (255 - pixels).tofile(folder / "golden" / "fitted.u8")


def _change_probabilities(folder: Path) -> None:
    path = folder / "golden" / "probabilities.f32"
    shares = np.fromfile(path, "<f4")
    shares[0] += 0.2
    shares.tofile(path)


def _forget_probabilities(folder: Path) -> None:
    path = folder / "golden" / "probabilities.f32"
    path.write_bytes(path.read_bytes()[:-4])


def _put_nan(folder: Path) -> None:
    path = folder / "golden" / "probabilities.f32"
    shares = np.fromfile(path, "<f4")
    shares[0] = np.nan
    shares.tofile(path)


def _change_label(folder: Path) -> None:
    description = description_of(folder)
    labels = description["golden"]["labels"]
    labels[0] = (labels[0] + 1) % len(description["classes"])
    (folder / "page.json").write_text(json.dumps(description))


def _change_picture(folder: Path) -> None:
    path = folder / "golden" / "pictures" / "02.png"
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).copy()
    pixels[pixels.shape[0] // 2] ^= 255
    Image.fromarray(pixels).save(path)


def _hash_again(folder: Path) -> None:
    """Forge the hashes, so that nothing but the golden pictures can find what was changed."""
    description = description_of(folder)
    description["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in description["sha256"]
    }
    (folder / "page.json").write_text(json.dumps(description))


def _verdict_of(window: Browser, page: Path, folder: Path, change: Change, forge: bool) -> str:
    copy = Path(shutil.copytree(page, folder / "page"))
    change(copy)
    if forge:
        _hash_again(copy)
    with served(copy) as address:
        window.open(address)
        window.wait(TESTED)
        return window.text("#verdict")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_swap_two_classes, "golden pictures get the class"),
        (_shift_the_normalisation, "probabilities differ by at most 0."),
        (_change_pixels, "golden pictures are decoded"),
        (_change_probabilities, "differ by at most 0.2"),
        (_forget_probabilities, "differ by at most NaN"),
        (_put_nan, "differ by at most NaN"),
        (_change_label, "golden pictures get the class"),
        (_change_picture, "golden pictures are decoded"),
    ],
)
def test_golden_pictures_find_what_was_changed(
    window: Browser, page: Path, tmp_path: Path, change: Change, told: str
) -> None:
    verdict = _verdict_of(window, page, tmp_path, change, forge=True)
    assert verdict.startswith("Self-test: fail.")
    assert told in verdict


@pytest.mark.parametrize("change", [_shift_the_normalisation, _change_pixels, _change_probabilities])
def test_hashes_find_what_was_changed(window: Browser, page: Path, tmp_path: Path, change: Change) -> None:
    verdict = _verdict_of(window, page, tmp_path, change, forge=False)
    assert verdict.startswith("Self-test: fail.")
    assert "its sha256 differs" in verdict


def _remove_the_model(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def _garble_the_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")


@pytest.mark.parametrize("change", [_remove_the_model, _garble_the_model])
def test_model_that_cannot_be_opened_is_a_failure(
    window: Browser, page: Path, tmp_path: Path, change: Change
) -> None:
    verdict = _verdict_of(window, page, tmp_path, change, forge=False)
    assert verdict.startswith("Self-test: fail.")
    assert "The model could not be tested" in verdict


def test_page_that_was_copied_without_a_change_passes(window: Browser, page: Path, tmp_path: Path) -> None:
    """The tests above would prove nothing if copying and hashing again failed the self-test."""
    assert _verdict_of(window, page, tmp_path, lambda folder: None, forge=True).startswith("Self-test: pass.")
