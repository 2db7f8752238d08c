import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sample_networks import sample_graph, sample_images
from torch import nn

import calibration.ranges
from artifacts import MANIFEST, MODEL, RANGES, RunDirectory, sha256_of
from calibration.histogram import BINS, Histogram
from calibration.methods import METHODS, Method
from calibration.placement import observed_values
from calibration.ranges import observe, ranges_from_file, ranges_from_graph
from errors import UserError
from graphs.onnx_file import graph_from_file
from models.blocks import OriginalBlock, PreActBlock
from models.checkpoint import model_in
from models.config import VARIANTS, resnet_config


def document_of(run):
    return json.loads(run.verified(RANGES).read_text())


@pytest.fixture(scope="module", params=VARIANTS)
def calibrated(request, trained_runs):
    """A run of each variant, not to be changed."""
    return RunDirectory(trained_runs[request.param])


def tensor_names(model):
    """Module of the unfolded network -> name of the same tensor in the folded graph."""
    names = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            # The one behind the addition of an original block is the block's output.
            names[path] = path
        elif isinstance(module, PreActBlock):
            names[path] = f"{path}.add"
            last = list(module.residual._modules)[-1]
            names[f"{path}.residual.{last}"] = f"{path}.residual.{last}"
            if module.projection is not None:
                names[f"{path}.projection"] = f"{path}.projection"
        elif isinstance(module, OriginalBlock):
            last = list(module.residual._modules)[-1]
            names[f"{path}.residual.{last}"] = f"{path}.residual.{last.replace('bn', 'conv')}"
            if module.projection is not None:
                names[f"{path}.projection"] = f"{path}.projection.conv"
    if isinstance(model.stem, nn.Sequential) and len(model.stem) == 1:
        names["stem"] = "stem.conv"
    return names


@pytest.fixture(scope="module")
def activations(calibrated, digits):
    """Every quantized tensor of the calibration images, from PyTorch's unfolded network."""
    model, _ = model_in(calibrated)
    images = digits.normalised(digits.calibration.images)
    seen = {"images": images}
    for path, name in tensor_names(model).items():
        model.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, output.numpy())
        )
    with torch.inference_mode():
        model(torch.from_numpy(images))
    return seen


def test_file_says_what_it_was_made_of(calibrated, digits):
    document = document_of(calibrated)
    assert document["format"] == 2
    assert document["model"] == sha256_of(calibrated.path / MODEL)
    assert document["method"] == Method().to_json()
    assert document["images"] == len(digits.calibration)
    assert document["split"] == calibrated.record(RANGES).options["split"]


def test_every_observed_tensor_has_an_entry_that_holds_zero(calibrated):
    tensors = document_of(calibrated)["tensors"]
    observed = observed_values(graph_from_file(calibrated.path / MODEL))
    assert list(tensors) == [value.name for value in observed]
    for entry in tensors.values():
        assert 0 <= entry["amax"] <= max(-entry["min"], entry["max"])
        assert min(entry["min"], 0) <= entry["low"] <= 0 <= entry["high"] <= max(entry["max"], 0)


def test_extremes_are_pytorchs(calibrated, activations):
    tensors = document_of(calibrated)["tensors"]
    assert set(tensors) == set(activations)
    for name, values in activations.items():
        near = pytest.approx((values.min(), values.max()), abs=1e-4 * float(np.abs(values).max()))
        assert (tensors[name]["min"], tensors[name]["max"]) == near, name


def test_percentiles_are_those_of_pytorchs_activations(calibrated, activations):
    document = document_of(calibrated)
    tensors, share = document["tensors"], document["method"]["percentile"] / 100
    for name, values in activations.items():
        high = np.quantile(values, share, method="inverted_cdf")
        low = -np.quantile(-values, share, method="inverted_cdf")
        # Twice the widest bin there can be.
        near = pytest.approx((min(low, 0), max(high, 0)), abs=4 * float(np.abs(values).max()) / BINS)
        assert (tensors[name]["low"], tensors[name]["high"]) == near, name


def test_summary_is_that_of_pytorchs_activations(calibrated, activations):
    tensors = document_of(calibrated)["tensors"]
    for name, values in activations.items():
        # Twice the widest bin there can be.
        near = {"rel": 1e-4, "abs": 4 * float(np.abs(values).max()) / BINS}
        assert tensors[name]["mean"] == pytest.approx(values.mean(dtype=np.float64), **near), name
        assert tensors[name]["std"] == pytest.approx(values.std(dtype=np.float64), **near), name
        assert tensors[name]["zeros"] == pytest.approx((values == 0).mean(), abs=1e-3), name
        for share, quantile in tensors[name]["magnitudes"].items():
            exact = np.quantile(np.abs(values), float(share), method="inverted_cdf")
            assert quantile == pytest.approx(exact, **near), (name, share)


def test_file_gives_its_ranges_back(calibrated):
    tensors = document_of(calibrated)["tensors"]
    found = ranges_from_file(calibrated.path / RANGES)
    assert {name: tuple(r) for name, r in found.items()} == {
        name: (entry["low"], entry["high"], entry["amax"]) for name, entry in tensors.items()
    }


def test_second_call_is_up_to_date(preact_run, digits):
    before = (preact_run.path / RANGES).read_bytes()
    assert not ranges_from_graph(preact_run, digits, Method())
    assert ranges_from_graph(preact_run, digits, Method(), force=True)
    assert (preact_run.path / RANGES).read_bytes() == before


def test_other_method_or_split_is_calibrated_anew(preact_run, digits):
    assert ranges_from_graph(preact_run, digits, Method("minmax"))
    document = document_of(preact_run)
    assert document["method"] == {"name": "minmax"}
    for entry in document["tensors"].values():
        low, high = min(entry["min"], 0), max(entry["max"], 0)
        assert (entry["low"], entry["high"], entry["amax"]) == (low, high, max(-low, high))
    fewer = replace(digits, calibration=digits.calibration.subset(np.arange(5)))
    assert ranges_from_graph(preact_run, fewer, Method("minmax"))
    assert document_of(preact_run)["images"] == 5


def test_every_method_is_calibrated(preact_run, digits):
    found = {}
    for name in METHODS:
        assert ranges_from_graph(preact_run, digits, Method(name))
        found[name] = ranges_from_file(preact_run.path / RANGES)
        assert not ranges_from_graph(preact_run, digits, Method(name))
    for tensor in found["minmax"]:
        assert len({tuple(ranges[tensor]) for ranges in found.values()}) > 1, tensor


def test_file_of_another_format_is_calibrated_anew(preact_run, digits, monkeypatch):
    monkeypatch.setattr(calibration.ranges, "FORMAT", 3)
    assert ranges_from_graph(preact_run, digits, Method())
    assert document_of(preact_run)["format"] == 3


def test_calibrating_on_test_images_is_refused(preact_run, digits):
    assert_refused(preact_run, digits, digits.test.subset(np.arange(3)), "3 calibration images are in")


def test_calibrating_on_noise_is_refused(preact_run, digits):
    noise = np.random.default_rng(0).integers(0, 256, digits.calibration.images.shape, np.uint8)
    assert_refused(preact_run, digits, replace(digits.calibration, images=noise), "noise")


def assert_refused(run, dataset, calibration_split, problem):
    before = (run.path / MANIFEST).read_bytes()
    with pytest.raises(UserError, match=problem):
        ranges_from_graph(run, replace(dataset, calibration=calibration_split), Method())
    assert (run.path / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("batch", [1, 7])
def test_ranges_do_not_depend_on_the_batch_size(monkeypatch, batch):
    images = sample_images(15)
    model = sample_graph(resnet_config("preact", 8))
    whole = observe(model, images)
    monkeypatch.setattr(calibration.ranges, "_LARGEST_BATCH", batch)
    parts = observe(model, images)
    assert list(parts) == list(whole)
    for name, histogram in whole.items():
        assert parts[name].counts.sum() == histogram.counts.sum()
        assert parts[name].exponent == histogram.exponent
        # The kernels may round differently for another batch size, the histogram may not.
        width = histogram.width
        for method in (Method(), Method("minmax")):
            near = pytest.approx(tuple(method.range_of(histogram)), abs=1.01 * width)
            assert tuple(method.range_of(parts[name])) == near, name


def test_large_networks_are_observed_in_small_batches():
    values = observed_values(sample_graph(resnet_config("preact", 164)))
    inside = [value for value in values if not value.is_graph_input()]
    batch = calibration.ranges._batch_size(inside)
    # float32 of C x H x W elements each.
    image = sum(4 * int(np.prod(value.shape[1:])) for value in inside)
    assert 1 <= batch < 100
    assert batch * image <= 256 * 2**20 < (batch + 1) * image


def test_order_of_the_images_does_not_matter():
    images = sample_images(8)
    model = sample_graph(resnet_config("original", 8))
    forwards, backwards = observe(model, images), observe(model, images[::-1])
    for name, histogram in forwards.items():
        assert backwards[name].maximum == pytest.approx(histogram.maximum, rel=1e-5, abs=1e-6)
        assert backwards[name].quantile(0.999) == pytest.approx(
            histogram.quantile(0.999), abs=1.01 * histogram.width
        )


def test_every_element_of_every_image_is_counted():
    histograms = observe(sample_graph(resnet_config("preact", 8)), sample_images(3))
    assert all(isinstance(histogram, Histogram) for histogram in histograms.values())
    assert histograms["images"].counts.sum() == 3 * 3 * 32 * 32
    assert histograms["stem.conv"].counts.sum() == 3 * 16 * 32 * 32
    assert histograms["stage3.0.add"].counts.sum() == 3 * 64 * 8 * 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "null",
        "{}",
        '{"format": 1, "tensors": {}}',
        '{"format": 2}',
        '{"format": 2, "tensors": []}',
        '{"format": 2, "tensors": {"images": {"low": 0, "high": 1}}}',
        '{"format": 2, "tensors": {"images": null}}',
        *(
            f'{{"format": 2, "tensors": {{"images": {{"low": {low}, "high": {high}, "amax": {amax}}}}}}}'
            for low, high, amax in (
                *((0, '"wide"', 1), (0, 1, "null"), (1, 0.5, 1), (0, 1, -1)),
                *(("NaN", 1, 1), (0, "NaN", 1), (0, 1, "NaN"), (0, "Infinity", 1), (0, 1, "1e999")),
            )
        ),
        "\x00\xff",
    ],
)
def test_garbled_file_is_refused(tmp_path, text):
    path = tmp_path / RANGES
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="is not a ranges file") as caught:
        ranges_from_file(path)
    assert str(path) in caught.value.problem
    assert caught.value.fix
