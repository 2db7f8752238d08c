"""The files of the page, and what page.json says."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bundling
from bundling.web_page import PAGE_FILES, TOLERANCES, web_from_bundle
from errors import UserError
from workflow.bundle import WrittenBundle

RUNTIME = {"ort.wasm.bundle.min.js": b"export {};", "ort-wasm-simd-threaded.wasm": b"\0asm"}
SOURCES = Path(bundling.__path__[0], "web")


@pytest.fixture
def page(pixel_bundle: WrittenBundle) -> dict[str, bytes]:
    return web_from_bundle(pixel_bundle.folder, pixel_bundle.document, RUNTIME)


def test_page_is_the_bundles_preferred_graph_that_takes_pixels(
    page: dict[str, bytes], pixel_bundle: WrittenBundle
) -> None:
    wanted = next(a for a in pixel_bundle.document.artifacts if a.id.endswith("-u8"))
    assert page["model.onnx"] == (pixel_bundle.folder / wanted.file).read_bytes()
    description = json.loads(page["page.json"])
    assert (description["input"], description["output"]) == ("images", "probabilities")
    assert description["tolerance"] == TOLERANCES[wanted.precision]
    assert description["classes"] == list(pixel_bundle.document.classes)
    assert f"on {wanted.verdict.images} test pictures" in description["about"]  # type: ignore[union-attr]


def test_golden_pictures_come_with_their_pixels_and_probabilities(
    page: dict[str, bytes], pixel_bundle: WrittenBundle
) -> None:
    golden = json.loads(page["page.json"])["golden"]
    count = pixel_bundle.document.golden.count
    assert len(golden["pictures"]) == len(golden["labels"]) == count
    assert len(page[golden["fitted"]]) == count * 32 * 32 * 3
    shares = np.frombuffer(page[golden["probabilities"]], "<f4").reshape(count, -1)
    assert shares.argmax(1).tolist() == golden["labels"]
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    for picture in golden["pictures"]:
        assert page[picture] == (pixel_bundle.folder / picture).read_bytes()


def test_hashes_in_the_description_are_those_of_the_files(page: dict[str, bytes]) -> None:
    hashes = json.loads(page["page.json"])["sha256"]
    assert {"model.onnx", "golden/fitted.u8", "golden/probabilities.f32"} <= set(hashes)
    assert hashes == {name: hashlib.sha256(page[name]).hexdigest() for name in hashes}


def test_every_file_of_the_page_is_shipped_and_loads_nothing_from_elsewhere(page: dict[str, bytes]) -> None:
    assert {path.name for path in SOURCES.iterdir()} == set(PAGE_FILES)
    for name in PAGE_FILES:
        text = page[name].decode()
        if name != "README.md":
            assert not re.search(r"https?://", text), name
        for loaded in re.findall(r'(?:from|src=|href=|import) ?"(?:\./)?([^"]+)"', text):
            assert loaded in page, f"{name} loads {loaded}"


def test_bundle_without_a_graph_that_takes_pixels_is_refused(pixel_bundle: WrittenBundle) -> None:
    document = pixel_bundle.document
    plain = tuple(entry for entry in document.artifacts if entry.input.dtype == "float32")
    with pytest.raises(UserError, match="no graph for a browser") as refusal:
        web_from_bundle(pixel_bundle.folder, replace(document, artifacts=plain), RUNTIME)
    assert "leave out --web" in refusal.value.fix


def test_page_of_an_unverified_graph_says_so(pixel_bundle: WrittenBundle) -> None:
    document = pixel_bundle.document
    unverified = tuple(replace(entry, verdict=None) for entry in document.artifacts)
    page = web_from_bundle(pixel_bundle.folder, replace(document, artifacts=unverified), RUNTIME)
    assert "has not passed verification" in json.loads(page["page.json"])["about"]
