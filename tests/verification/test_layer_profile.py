from typing import Any

import pytest
from stub_runtimes import stubbed

from artifacts.names import MODEL, MODEL_INT8_OPENVINO
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.runtime import LayerTime
from runtimes.subjects import Subject
from verification.layer_profile import profiles_of
from vocabulary import Device, Precision

ORT = Subject("ort", Precision.fp32, MODEL, Device.cpu)
TORCH = Subject("torch", Precision.fp32, "checkpoint", Device.cpu)


def test_slowest_layer_comes_first_and_no_profile_is_none(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [LayerTime("stem", 0.5), LayerTime("block", 2.0), LayerTime("head", 1.0)]
    made: dict[tuple[str, str, str], Any] = {
        ("ort", "fp32", "cpu"): {"milliseconds": 1.0, "layers": layers},
        ("torch", "fp32", "cpu"): 1.0,
    }
    stubs = stubbed(monkeypatch, made)
    run: Any = None
    ort, torch = profiles_of(run, digits, [ORT, TORCH], 4, 2, True, cuda_graphs=False)
    assert (ort.subject, ort.batch) == (ORT, 4)
    assert [layer.name for layer in ort.layers or ()] == ["block", "head", "stem"]
    assert torch.layers is None
    assert stubs.options == [(2, True, False)] * 2
    assert not any(stub.is_open for stub in stubs.opened)


def test_openvino_tells_its_layers(preact_run: RunDirectory, digits: Dataset) -> None:
    images = digits.normalised(digits.test.images[:2])
    with OpenVinoRuntime(preact_run.verified(MODEL_INT8_OPENVINO), "int8") as runtime:
        before = runtime.infer(images)
        layers = runtime.layer_times(images, 3)
        assert (runtime.infer(images) == before).all()
        with pytest.raises(ValueError, match="openvino takes float32"):
            runtime.layer_times(images[0], 3)
    convolutions = [layer for layer in layers if "brgconv" in layer.name or "conv" in layer.name.lower()]
    assert len(convolutions) >= 7
    assert all(layer.ms > 0 for layer in layers)
