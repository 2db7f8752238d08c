"""The page in headless Chromium: the golden pictures, what must make the self-test fail, and every way in."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from browser import ELSEWHERE, ENTER, TAB, Browser, chromium, needs_chromium, needs_npm, served
from fault_injection import change_initializer
from PIL import Image

from bundling.onnxruntime_web import runtime_from_npm
from bundling.web_page import web_from_bundle
from bundling.writing import write_folder
from data.images import image_from_bytes
from errors import UserError
from workflow.bundle import WrittenBundle

pytestmark = [needs_chromium, needs_npm]
DONE = "document.getElementById('verdict').dataset.state !== 'running'"
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def page(pixel_bundle: WrittenBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page. Not to be changed."""
    try:
        runtime = runtime_from_npm()
    except UserError as error:
        pytest.skip(f"npm does not reach its registry: {error.problem}")
    folder = tmp_path_factory.mktemp("web") / "page"
    files = web_from_bundle(pixel_bundle.folder, pixel_bundle.document, runtime)
    write_folder(files, folder, "page", "page.json")
    return folder


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def address(page: Path) -> Iterator[str]:
    with served(page) as found:
        yield found


@pytest.fixture
def opened(window: Browser, address: str) -> Browser:
    """The page, tested."""
    window.open(address)
    window.wait(DONE)
    return window


def _description(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "page.json").read_text())


def _results(window: Browser, count: int) -> list[tuple[str, str]]:
    """Wait for so many results, and return the name and the likeliest class of each."""
    window.wait(f"document.querySelectorAll('.result').length === {count}")
    names = window.script("return [...document.querySelectorAll('.result h3')].map(node => node.textContent)")
    first = "return [...document.querySelectorAll('.result .first .name')].map(node => node.textContent)"
    return list(zip(names, window.script(first), strict=True))


def test_self_test_passes_and_says_what_was_tested(opened: Browser, page: Path) -> None:
    verdict, count = opened.text("#verdict"), len(_description(page)["golden"]["labels"])
    assert verdict.startswith("Self-test: pass.")
    assert "have the bundled sha256" in verdict
    assert f"{count} of {count} golden pictures get the class that they should get" in verdict
    assert f"{count} of {count} golden pictures are decoded, cut and resized" in verdict
    assert opened.script("return document.getElementById('verdict').dataset.state") == "pass"


def test_chosen_golden_pictures_get_their_labels(opened: Browser, page: Path) -> None:
    description = _description(page)
    golden = description["golden"]
    opened.type("#files", "\n".join(str(page / picture) for picture in golden["pictures"]))
    expected = [
        (picture.split("/")[-1], description["classes"][label])
        for picture, label in zip(golden["pictures"], golden["labels"], strict=True)
    ]
    assert _results(opened, len(expected)) == expected
    assert len({label for _, label in expected}) > 5
    assert " ms" in opened.text(".result")


def test_dropped_pictures_get_their_labels(opened: Browser, page: Path) -> None:
    description = _description(page)
    drop = """
        const content = await (await fetch(arguments[0])).arrayBuffer();
        const transfer = new DataTransfer();
        transfer.items.add(new File([content], "dropped.png"));
        const dropped = { bubbles: true, cancelable: true, dataTransfer: transfer };
        document.body.dispatchEvent(new DragEvent("drop", dropped));
    """
    picture, label = description["golden"]["pictures"][3], description["golden"]["labels"][3]
    opened.script(f"return (async () => {{ {drop.replace('arguments[0]', json.dumps(picture))} }})()")
    assert _results(opened, 1) == [("dropped.png", description["classes"][label])]


def test_page_can_be_used_with_the_keyboard_alone(opened: Browser, page: Path) -> None:
    focused = []
    for _ in range(3):
        opened.press(TAB)
        focused.append(opened.script("return document.activeElement.id"))
    assert focused == ["files", "camera", "golden"]
    opened.press(ENTER)
    _results(opened, len(_description(page)["golden"]["pictures"]))


def test_file_that_is_no_picture_is_named_and_the_others_are_classified(
    opened: Browser, page: Path, tmp_path: Path
) -> None:
    (tmp_path / "no-picture.png").write_text("text")
    opened.type("#files", f"{tmp_path / 'no-picture.png'}\n{page / 'golden/pictures/00.png'}")
    assert [name for name, _ in _results(opened, 1)] == ["00.png"]
    assert opened.text("#problem").endswith("can decode: no-picture.png")


def test_camera_is_classified_until_it_is_stopped(opened: Browser) -> None:
    opened.click("#camera")
    opened.wait("document.querySelectorAll('#live-bars .bar').length === 5")
    assert " ms" in opened.text("#live-time")
    opened.click("#stop")
    opened.wait("document.getElementById('live').hidden")
    assert opened.script("return document.getElementById('video').srcObject") is None


def test_nothing_is_loaded_from_elsewhere(opened: Browser, address: str) -> None:
    loaded = opened.script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert any(name.endswith(".wasm") for name in loaded)
    assert all(name.startswith(address) for name in loaded)
    # One thread computes: the server did not send what browsers ask for before memory is shared.
    assert opened.script("return crossOriginIsolated") is False


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)])
@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_the_screen_in_light_and_dark(
    opened: Browser, width: int, height: int, dark: bool, tmp_path: Path
) -> None:
    opened.click("#golden")
    opened.look(width, height, dark, tmp_path / "screen.png")
    assert opened.script("return document.documentElement.scrollWidth") <= width
    with Image.open(tmp_path / "screen.png") as picture:
        assert picture.size == (width, height)
        ground = picture.convert("L").getpixel((2, height // 2))
    assert ground < 60 if dark else ground > 200


def test_away_from_localhost_the_page_says_what_browsers_do_not_offer(window: Browser, address: str) -> None:
    window.open(address.replace("127.0.0.1", ELSEWHERE))
    window.wait(DONE)
    verdict = window.text("#verdict")
    assert verdict.startswith("Self-test: pass.")
    assert "The files were not hashed" in verdict
    window.click("#camera")
    window.wait("!document.getElementById('problem').hidden")
    assert "has to be served through https" in window.text("#problem")


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


def _change_label(folder: Path) -> None:
    description = _description(folder)
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
    description = _description(folder)
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
        window.wait(DONE)
        return window.text("#verdict")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_swap_two_classes, "golden pictures get the class"),
        (_shift_the_normalisation, "probabilities differ by at most 0."),
        (_change_pixels, "golden pictures are decoded"),
        (_change_probabilities, "differ by at most 0.2"),
        (_forget_probabilities, "differ by at most NaN"),
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


@pytest.mark.parametrize("change", [_shift_the_normalisation, _change_pixels])
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


def _encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def _pictures() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (61, 83, 4), np.uint8)
    smooth = np.add.outer(np.arange(150), np.arange(97))[..., None] + np.array([0, 60, 120])
    orientation = Image.Exif()
    orientation[0x0112] = 6
    return {
        "odd.png": _encoded(noise[..., :3], "png"),
        "transparent.png": _encoded(noise, "png"),
        "grey.png": _encoded(noise[..., 0], "png"),
        "smooth.jpg": _encoded(smooth.astype(np.uint8), "jpeg", quality=90),
        "turned.jpg": _encoded(smooth.astype(np.uint8), "jpeg", quality=90, exif=orientation),
    }


@pytest.mark.parametrize("name", _pictures())
def test_picture_becomes_the_pixels_that_python_makes_of_it(opened: Browser, name: str) -> None:
    content = _pictures()[name]
    decode = """
        return (async (bytes) => {
          const { decoded, pixelsOf } = await import("./pictures.js");
          const picture = await decoded(new Blob([new Uint8Array(bytes)]));
          return Array.from(pixelsOf(picture, picture.width, picture.height, 32));
        })(arguments[0])
    """
    found = np.array(opened.script(decode, list(content)), np.uint8).reshape(32, 32, 3)
    np.testing.assert_array_equal(found, image_from_bytes(content, name).transpose(1, 2, 0))
