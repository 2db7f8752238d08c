import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from artifacts.names import MODEL
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from benchmarks import peers
from benchmarks.peers import (
    STATIC_SETTINGS,
    Peer,
    StaticSetting,
    _Batches,
    best_and_fastest,
    modelopt_graph,
    nncf_graphs,
    open_peer,
    static_graphs,
)
from data.dataset import Dataset
from errors import UserError
from graphs.onnx_file import card_from_file
from machine.cpu import adds_products_in_16_bits
from runtimes.subjects import open_subject, subject_in
from verification.compare import compare, logits_of_split


def _calibration(digits: Dataset) -> np.ndarray:
    return digits.normalised(digits.calibration.images)


def _snr(run: RunDirectory, digits: Dataset, peer: Peer) -> float:
    card = card_from_file(run.path / MODEL)
    with (
        open_subject(run, subject_in(run, "torch", "fp32"), 1) as original,
        open_peer(peer, card, 1) as runtime,
    ):
        logits = [logits_of_split(opened, digits, digits.calibration, "") for opened in (original, runtime)]
    return compare(*logits, digits.calibration.labels).snr_db


def test_batches_hold_every_image_once(digits: Dataset) -> None:
    images = _calibration(digits)[:50]
    reader = _Batches(images)
    assert len(reader) == 3
    assert np.array_equal(np.concatenate([batch["images"] for batch in reader]), images)
    assert reader.get_next() is None
    reader.set_range(1, 2)
    assert np.array_equal(np.concatenate([batch["images"] for batch in reader]), images[20:40])


def test_settings_differ() -> None:
    assert len({str(setting) for setting in STATIC_SETTINGS}) == len(STATIC_SETTINGS) == 18


def test_shared_ranges_change_nothing(
    preact_run: RunDirectory, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second graph uses the ranges that were calibrated for the first graph."""
    monkeypatch.setattr(
        peers,
        "STATIC_SETTINGS",
        [StaticSetting("QUInt8", "MinMax", narrow, "QDQ") for narrow in (True, False)],
    )
    images = _calibration(digits)
    _, peer = static_graphs(preact_run.path / MODEL, images, tmp_path)
    assert peer.setting == "uint8, MinMax, 8-bit weights, QDQ"
    alone = tmp_path / "alone.onnx"
    quantize_static(
        tmp_path / "prepared.onnx",
        alone,
        _Batches(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    shared, expected = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (peer.path, alone)
    )
    assert shared.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(shared[name], array, rtol=1e-6, err_msg=name)
    # The 8-bit weights of this graph saturate without VNNI.
    assert _snr(preact_run, digits, peer) > (5 if adds_products_in_16_bits() else 10)


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_peers_run_as_our_own_graphs_do(preact_run: RunDirectory, digits: Dataset, engine: str) -> None:
    card = card_from_file(preact_run.path / MODEL)
    images = digits.normalised(digits.test.images[:7])
    artifact = subject_in(preact_run, engine, "int8").artifact
    peer = Peer(engine, "skipfold", "", preact_run.path / artifact)
    with (
        open_subject(preact_run, subject_in(preact_run, engine, "int8"), 1) as ours,
        open_peer(peer, card, 1) as theirs,
    ):
        assert np.array_equal(ours.infer(images), theirs.infer(images))
        assert ours.describe() == theirs.describe()


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_what_a_peer_left_in_float_is_run_and_seen(
    preact_run: RunDirectory, digits: Dataset, engine: str
) -> None:
    path = preact_run.path / MODEL
    with open_peer(Peer(engine, "none", "", path), card_from_file(path), 1) as runtime:
        runtime.infer(digits.normalised(digits.test.images[:1]))
        assert set(runtime.describe()["convolutions"]) == {{"ort": "Conv", "openvino": "f32"}[engine]}


@pytest.mark.parametrize(
    ("fastest", "expected"),
    [("b", ["best and fastest: b"]), ("c", ["best: b", "fastest: c"]), ("a", ["best: b", "fastest: a"])],
)
def test_best_has_the_least_noise_and_fastest_the_least_time(
    preact_run: RunDirectory,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    fastest: str,
    expected: list[str],
) -> None:
    noise = {"a": 1.0, "b": 0.1, "c": 0.3}
    candidates = [Peer("ort", "quantize_static", name, Path(name)) for name in noise]
    seen: list[Any] = []

    def noisy_logits(runtime: Any, dataset: Dataset, split: Any, _: str) -> np.ndarray:
        seen.append(split)
        y = np.random.default_rng(0).standard_normal((len(split), 10)).astype(np.float32)
        return y + np.float32(noise.get(runtime, 0.0))

    monkeypatch.setattr(peers, "open_subject", lambda *_: nullcontext("original"))
    monkeypatch.setattr(peers, "open_peer", lambda peer, *_: nullcontext(peer.setting))
    monkeypatch.setattr(peers, "logits_of_split", noisy_logits)
    monkeypatch.setattr(
        peers,
        "latencies",
        lambda opened, *_: {p: SimpleNamespace(p50_ms=1.0 + (p.setting != fastest)) for p in opened},
    )
    chosen = best_and_fastest(candidates, preact_run, digits, 1, 0.0)
    assert [peer.setting for peer in chosen] == expected
    assert all(split is digits.calibration for split in seen)


def test_modelopt_gets_the_images_and_leaves_the_rest_in_float32(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def recorded(command: list[str]) -> str:
        commands.append(command)
        return "9.9\n"

    monkeypatch.setattr(peers, "_output_of", recorded)
    images = _calibration(digits)
    peer = modelopt_graph("python-of-modelopt", Path("model.onnx"), images, tmp_path)
    assert (peer.engine, peer.tool, peer.setting) == ("ort", "ModelOpt", "9.9, defaults")
    assert {command[0] for command in commands} == {"python-of-modelopt"}
    options = dict(argument[2:].split("=") for argument in commands[-1][3:])
    assert np.array_equal(np.load(options["calibration_data_path"]), images)
    assert options["calibration_shapes"] == "images:20x3x32x32"
    assert options["high_precision_dtype"] == "fp32"
    assert options["output_path"] == str(peer.path)


@pytest.mark.parametrize(
    ("python", "problem"), [("no-such-python", "cannot be run"), (sys.executable, "No package metadata")]
)
def test_an_interpreter_without_modelopt_is_refused(digits: Dataset, python: str, problem: str) -> None:
    if python == sys.executable and version_of("nvidia-modelopt"):
        pytest.skip("ModelOpt is installed here")
    with pytest.raises(UserError, match=problem):
        modelopt_graph(python, Path("model.onnx"), _calibration(digits), Path())


def test_nncf_quantizes_every_convolution(run: RunDirectory, digits: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    model = run.path / MODEL
    graphs = nncf_graphs(model, _calibration(digits)[:40], tmp_path)
    settings = [peer.setting.split(", ", 1)[1] for peer in graphs]
    assert settings == ["preset performance", "preset mixed", "preset performance, min-max"]
    for peer in graphs:
        with open_peer(peer, card_from_file(model), 1) as runtime:
            assert set(runtime.describe()["convolutions"]) <= {"u8", "i8"}
        assert _snr(run, digits, peer) > 10
