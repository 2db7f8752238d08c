"""Adapted graphs are made once, are opened by the runtimes, and take nothing but what their card says."""

import numpy as np
import pytest

from artifacts.names import MODEL, MODEL_INT8_CPU
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from export.adapted_graph import Adaptation, adapted_from_graph
from graphs.onnx_file import card_from_file
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime
from verification.probabilities import probabilities


@pytest.mark.parametrize(
    ("adaptation", "source", "name"),
    [
        (Adaptation(pixels=True), MODEL, "model.u8.onnx"),
        (Adaptation(batch=8), MODEL, "model.b8.onnx"),
        (Adaptation(pixels=True, batch=8), MODEL_INT8_CPU, "model.int8.cpu.u8.b8.onnx"),
    ],
)
def test_names(adaptation: Adaptation, source: str, name: str) -> None:
    assert adaptation.name_of(source) == name


def test_made_once_and_again_when_the_source_changes(preact_run: RunDirectory) -> None:
    adaptation = Adaptation(pixels=True)
    assert adapted_from_graph(preact_run, MODEL, adaptation) == ("model.u8.onnx", True)
    content = (preact_run.path / "model.u8.onnx").read_bytes()
    assert adapted_from_graph(preact_run, MODEL, adaptation) == ("model.u8.onnx", False)
    assert adapted_from_graph(preact_run, MODEL, adaptation, force=True) == ("model.u8.onnx", True)
    assert (preact_run.path / "model.u8.onnx").read_bytes() == content
    (preact_run.path / "model.u8.onnx").write_bytes(b"other")
    assert adapted_from_graph(preact_run, MODEL, adaptation) == ("model.u8.onnx", True)


def test_card_says_what_the_graph_takes_and_gives(preact_run: RunDirectory) -> None:
    name, _ = adapted_from_graph(preact_run, MODEL_INT8_CPU, Adaptation(pixels=True, batch=4))
    card, source = card_from_file(preact_run.path / name), card_from_file(preact_run.path / MODEL_INT8_CPU)
    assert (card.takes_pixels, card.output, card.batch) == (True, "probabilities", 4)
    assert card.is_same_network(source)
    assert card.adapted(False, 0).flavour == source.flavour == "cpu"
    assert (card.classes, card.saturation) == (source.classes, source.saturation)


@pytest.mark.parametrize("kind", [OrtRuntime, OpenVinoRuntime])
def test_runtime_takes_pixels_and_refuses_normalised_images(
    preact_run: RunDirectory, digits: Dataset, kind: type[OrtRuntime] | type[OpenVinoRuntime]
) -> None:
    name, _ = adapted_from_graph(preact_run, MODEL, Adaptation(pixels=True))
    pixels = digits.test.images[:5].transpose(0, 2, 3, 1)
    with kind(preact_run.path / MODEL, "fp32") as original, kind(preact_run.path / name, "fp32") as runtime:
        logits = original.infer(digits.normalised(digits.test.images[:5]))
        np.testing.assert_allclose(runtime.infer(pixels), probabilities(logits), rtol=0, atol=4e-6)
        with pytest.raises(ValueError, match=r"takes uint8 \[N, 32, 32, 3\], not float32 \[5, 3, 32, 32\]"):
            runtime.infer(digits.normalised(digits.test.images[:5]))
        with pytest.raises(ValueError, match=r"takes float32 \[N, 3, 32, 32\], not uint8 \[5, 32, 32, 3\]"):
            original.infer(pixels)


@pytest.mark.parametrize("kind", [OrtRuntime, OpenVinoRuntime])
def test_runtime_of_a_fixed_batch_takes_no_other(
    preact_run: RunDirectory, digits: Dataset, kind: type[OrtRuntime] | type[OpenVinoRuntime]
) -> None:
    name, _ = adapted_from_graph(preact_run, MODEL, Adaptation(batch=4))
    images = digits.normalised(digits.test.images[:4])
    with kind(preact_run.path / MODEL, "fp32") as original, kind(preact_run.path / name, "fp32") as runtime:
        np.testing.assert_allclose(runtime.infer(images), original.infer(images), rtol=0, atol=1e-4)
        with pytest.raises(ValueError, match="takes 4 images at a time, and 3 were given"):
            runtime.infer(images[:3])
