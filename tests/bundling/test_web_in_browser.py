"""The page in headless Chromium: every way in for a picture, and what is shown of it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import ELSEWHERE, ENTER, TAB, Browser, needs_chromium, needs_npm, served
from PIL import Image
from web_pages import TESTED, description_of

from data.images import image_from_bytes

pytestmark = [needs_chromium, needs_npm]


@pytest.fixture(scope="module")
def address(page: Path) -> Iterator[str]:
    with served(page) as found:
        yield found


@pytest.fixture
def opened(window: Browser, address: str) -> Browser:
    """The page, tested."""
    window.open(address)
    window.wait(TESTED)
    return window


def _results(window: Browser, count: int) -> list[tuple[str, str]]:
    """Wait for so many results, and return the name and the likeliest class of each."""
    window.wait(f"document.querySelectorAll('.result').length === {count}")
    names = window.script("return [...document.querySelectorAll('.result h3')].map(node => node.textContent)")
    first = "return [...document.querySelectorAll('.result .first .name')].map(node => node.textContent)"
    return list(zip(names, window.script(first), strict=True))


def test_self_test_passes_and_says_what_was_tested(opened: Browser, page: Path) -> None:
    verdict, count = opened.text("#verdict"), len(description_of(page)["golden"]["labels"])
    assert verdict.startswith("Self-test: pass.")
    assert "have the bundled sha256" in verdict
    assert f"{count} of {count} golden pictures get the class that they should get" in verdict
    assert f"{count} of {count} golden pictures are decoded, cut and resized" in verdict
    assert opened.script("return document.getElementById('verdict').dataset.state") == "pass"


def test_chosen_golden_pictures_get_their_labels(opened: Browser, page: Path) -> None:
    description = description_of(page)
    golden = description["golden"]
    opened.type("#files", "\n".join(str(page / picture) for picture in golden["pictures"]))
    expected = [
        (picture.split("/")[-1], description["classes"][label])
        for picture, label in zip(golden["pictures"], golden["labels"], strict=True)
    ]
    assert _results(opened, len(expected)) == expected
    assert len({label for _, label in expected}) > 5
    assert "\u00a0ms" in opened.text(".result")


def test_dropped_pictures_get_their_labels(opened: Browser, page: Path) -> None:
    description = description_of(page)
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
    _results(opened, len(description_of(page)["golden"]["pictures"]))


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
    assert "\u00a0ms" in opened.text("#live-time")
    opened.click("#stop")
    opened.wait("document.getElementById('live').hidden")
    assert opened.script("return document.getElementById('video').srcObject") is None


def test_camera_is_on_once_and_off_after_the_stop(opened: Browser) -> None:
    """A stream of which the page has no reference would keep the camera's light on."""
    opened.script("""
        window.streams = [];
        const asked = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          window.streams.push(await asked(wanted));
          return window.streams.at(-1);
        };
    """)
    opened.script("for (const _ of [1, 2]) document.getElementById('camera').click()")
    opened.wait("document.querySelectorAll('#live-bars .bar').length === 5")
    assert opened.script("return document.getElementById('camera').disabled")
    opened.click("#stop")
    states = "return window.streams.map(stream => stream.getTracks().map(track => track.readyState))"
    assert opened.script(states) == [["ended"]]
    assert not opened.script("return document.getElementById('camera').disabled")


def test_nothing_is_loaded_from_elsewhere(opened: Browser, address: str) -> None:
    loaded = opened.script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert any(name.endswith(".wasm") for name in loaded)
    assert all(name.startswith(address) for name in loaded)
    # One thread computes: the server did not send what browsers ask for before memory is shared.
    assert opened.script("return crossOriginIsolated") is False


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)])
@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_the_screen_in_light_and_dark(
    opened: Browser, page: Path, width: int, height: int, dark: bool, tmp_path: Path
) -> None:
    opened.click("#golden")
    _results(opened, len(description_of(page)["golden"]["pictures"]))
    opened.look(width, height, dark, tmp_path / "screen.png")
    assert opened.script("return document.documentElement.scrollWidth") <= width
    with Image.open(tmp_path / "screen.png") as picture:
        assert picture.size == (width, height)
        ground = picture.convert("L").getpixel((2, height // 2))
    assert ground < 60 if dark else ground > 200


def test_away_from_localhost_the_page_says_what_browsers_do_not_offer(window: Browser, address: str) -> None:
    window.open(address.replace("127.0.0.1", ELSEWHERE))
    window.wait(TESTED)
    verdict = window.text("#verdict")
    assert verdict.startswith("Self-test: pass.")
    assert "The files were not hashed" in verdict
    window.click("#camera")
    window.wait("!document.getElementById('problem').hidden")
    assert "has to be served through https" in window.text("#problem")


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
