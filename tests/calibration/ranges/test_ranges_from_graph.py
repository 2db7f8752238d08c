"""The calibration stage against the activations of PyTorch's unfolded network."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sample_networks import graph_of, sample_card, sample_network
from torch import nn

from artifacts.files import sha256_of
from artifacts.names import MANIFEST, MODEL_REPARAMETRIZED, RANGES
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.quantizing.placement import observed_values
from calibration.quantizing.scales import Range
from calibration.ranges.histogram import BINS
from calibration.ranges.methods import METHODS, Method
from calibration.ranges.ranges_from_graph import (
    GRAPHS,
    calibrated,
    observe,
    ranges_from_file,
    ranges_from_graph,
)
from errors import UserError
from graphs.onnx_file import graph_from_file, write_graph
from models.blocks import OriginalBlock, PreActBlock
from models.config import VARIANTS, resnet_config


def document_of(run):
    return json.loads(run.verified(RANGES).read_text())


def tensors_of(run, graph=MODEL_REPARAMETRIZED):
    return document_of(run)["graphs"][graph]["tensors"]


@pytest.fixture(scope="module")
def dataset(digits):
    """The digits with only 60 images for calibration."""
    return replace(digits, calibration=digits.calibration.subset(np.arange(60)))


def run_of(path, model, dataset):
    """Return a run directory that holds two equal graphs and their ranges."""
    run = RunDirectory(path)
    with run.writing(Step("observe", {}, (), GRAPHS)) as folder:
        for file in GRAPHS:
            write_graph(graph_of(model), sample_card(model.config), folder / file)
    assert ranges_from_graph(run, dataset, Method())
    return run


@pytest.fixture(scope="module", params=VARIANTS)
def network(request):
    return sample_network(resnet_config(request.param, 8))


@pytest.fixture(scope="module")
def observed(network, dataset, tmp_path_factory):
    """A run of each variant, which no test may change."""
    return run_of(tmp_path_factory.mktemp("run"), network, dataset)


@pytest.fixture
def preact_run(dataset, tmp_path):
    return run_of(tmp_path / "run", sample_network(resnet_config("preact", 8)), dataset)


def tensor_names(model):
    """Return the name of each module's output in the folded graph, by the path of the module in PyTorch."""
    names = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            # The ReLU behind the addition of an original block gives the output of the block.
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
def activations(network, dataset):
    """Every quantized tensor of the calibration images, computed by PyTorch's unfolded network."""
    images = dataset.normalised(dataset.calibration.images)
    tensors = {"images": images}
    for path, name in tensor_names(network).items():
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, name=name: tensors.__setitem__(name, output.numpy())
        )
    with torch.inference_mode():
        network(torch.from_numpy(images))
    return tensors


def test_file_says_what_it_was_made_of(observed, dataset):
    document = document_of(observed)
    assert document["format"] == 4
    sha256 = {file: document["graphs"][file]["sha256"] for file in document["graphs"]}
    assert sha256 == {file: sha256_of(observed.path / file) for file in GRAPHS}
    assert document["method"] == Method().to_json()
    assert document["images"] == len(dataset.calibration)
    assert document["split"] == observed.record(RANGES).options["split"]
    assert observed.record(RANGES).inputs == sha256


def test_every_observed_tensor_has_an_entry_that_holds_zero(observed):
    tensors = tensors_of(observed)
    values = observed_values(graph_from_file(observed.path / MODEL_REPARAMETRIZED))
    assert list(tensors) == [value.name for value in values]
    for entry in tensors.values():
        assert 0 <= entry["amax"] <= max(-entry["min"], entry["max"])
        assert min(entry["min"], 0) <= entry["low"] <= 0 <= entry["high"] <= max(entry["max"], 0)


def test_extremes_are_pytorchs(observed, activations):
    tensors = tensors_of(observed)
    assert set(tensors) == set(activations)
    for name, values in activations.items():
        near = pytest.approx((values.min(), values.max()), abs=1e-4 * float(np.abs(values).max()))
        assert (tensors[name]["min"], tensors[name]["max"]) == near, name


def test_percentiles_are_those_of_pytorchs_activations(observed, activations):
    tensors, share = tensors_of(observed), document_of(observed)["method"]["percentile"] / 100
    for name, values in activations.items():
        high = np.quantile(values, share, method="inverted_cdf")
        low = -np.quantile(-values, share, method="inverted_cdf")
        # A bin is at most 2 max |x| / BINS wide, and two bins are allowed for.
        near = pytest.approx((min(low, 0), max(high, 0)), abs=4 * float(np.abs(values).max()) / BINS)
        assert (tensors[name]["low"], tensors[name]["high"]) == near, name


def test_summary_is_that_of_pytorchs_activations(observed, activations):
    tensors = tensors_of(observed)
    for name, values in activations.items():
        # A bin is at most 2 max |x| / BINS wide, and two bins are allowed for.
        near = {"rel": 1e-4, "abs": 4 * float(np.abs(values).max()) / BINS}
        assert tensors[name]["mean"] == pytest.approx(values.mean(dtype=np.float64), **near), name
        assert tensors[name]["std"] == pytest.approx(values.std(dtype=np.float64), **near), name
        assert tensors[name]["zeros"] == pytest.approx((values == 0).mean(), abs=1e-3), name
        for share, quantile in tensors[name]["magnitudes"].items():
            exact = np.quantile(np.abs(values), float(share), method="inverted_cdf")
            assert quantile == pytest.approx(exact, **near), (name, share)


def test_channel_means_are_those_of_pytorchs_activations(observed, activations):
    tensors = tensors_of(observed)
    for name, values in activations.items():
        exact = values.mean((0, 2, 3), dtype=np.float64)
        near = 1e-4 * float(np.abs(values).max())
        np.testing.assert_allclose(tensors[name]["channel_means"], exact, atol=near, err_msg=name)


def test_file_gives_its_ranges_and_means_back(observed):
    tensors = tensors_of(observed)
    read = ranges_from_file(observed.path / RANGES, MODEL_REPARAMETRIZED)
    assert {name: entry.range for name, entry in read.items()} == {
        name: Range(entry["low"], entry["high"], entry["amax"]) for name, entry in tensors.items()
    }
    for name, entry in read.items():
        assert entry.channel_means.dtype == np.float64
        assert entry.channel_means.tolist() == tensors[name]["channel_means"]


def test_observers_give_the_ranges_of_the_file(observed, dataset):
    images = dataset.normalised(dataset.calibration.images)
    observers = observe(graph_from_file(observed.path / MODEL_REPARAMETRIZED), images)
    direct, read = (
        calibrated(observers, Method()),
        ranges_from_file(observed.path / RANGES, MODEL_REPARAMETRIZED),
    )
    assert list(direct) == list(read)
    for name, entry in direct.items():
        assert entry.range == read[name].range
        assert entry.channel_means.dtype == np.float64
        # The file holds six digits of each mean.
        np.testing.assert_allclose(read[name].channel_means, entry.channel_means, rtol=1e-5)


def test_graphs_that_differ_have_ranges_of_their_own(dataset, tmp_path):
    run = RunDirectory(tmp_path)
    with run.writing(Step("observe", {}, (), GRAPHS)) as folder:
        for seed, file in enumerate(GRAPHS):
            model = sample_network(resnet_config("preact", 8), seed)
            write_graph(graph_of(model), sample_card(model.config), folder / file)
    assert ranges_from_graph(run, dataset, Method("minmax"))
    images = dataset.normalised(dataset.calibration.images)
    for file in GRAPHS:
        direct = calibrated(observe(graph_from_file(run.path / file), images), Method("minmax"))
        read = ranges_from_file(run.path / RANGES, file)
        assert {name: entry.range for name, entry in read.items()} == {
            name: entry.range for name, entry in direct.items()
        }


def test_second_call_is_up_to_date(preact_run, dataset):
    before = (preact_run.path / RANGES).read_bytes()
    assert not ranges_from_graph(preact_run, dataset, Method())
    assert ranges_from_graph(preact_run, dataset, Method(), force=True)
    assert (preact_run.path / RANGES).read_bytes() == before


def test_other_method_or_split_is_calibrated_anew(preact_run, dataset):
    assert ranges_from_graph(preact_run, dataset, Method("minmax"))
    document = document_of(preact_run)
    assert document["method"] == {"name": "minmax"}
    for entry in tensors_of(preact_run).values():
        low, high = min(entry["min"], 0), max(entry["max"], 0)
        assert (entry["low"], entry["high"], entry["amax"]) == (low, high, max(-low, high))
    fewer = replace(dataset, calibration=dataset.calibration.subset(np.arange(10)))
    assert ranges_from_graph(preact_run, fewer, Method("minmax"))
    assert document_of(preact_run)["images"] == 10


def test_every_method_is_calibrated(preact_run, dataset):
    by_method = {}
    for name in METHODS:
        assert ranges_from_graph(preact_run, dataset, Method(name))
        by_method[name] = ranges_from_file(preact_run.path / RANGES, MODEL_REPARAMETRIZED)
        assert not ranges_from_graph(preact_run, dataset, Method(name))
    for tensor in by_method["minmax"]:
        assert len({ranges[tensor].range for ranges in by_method.values()}) > 1, tensor


def test_calibrating_on_test_images_is_refused(preact_run, dataset):
    assert_refused(preact_run, dataset, dataset.test.subset(np.arange(12)), "12 calibration images are in")


def test_calibrating_on_noise_is_refused(preact_run, dataset):
    noise = np.random.default_rng(0).integers(0, 256, dataset.calibration.images.shape, np.uint8)
    assert_refused(preact_run, dataset, replace(dataset.calibration, images=noise), "noise")


def assert_refused(run, dataset, calibration_split, problem):
    before = (run.path / MANIFEST).read_bytes()
    with pytest.raises(UserError, match=problem):
        ranges_from_graph(run, replace(dataset, calibration=calibration_split), Method())
    assert (run.path / MANIFEST).read_bytes() == before
