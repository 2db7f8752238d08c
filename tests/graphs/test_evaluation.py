import numpy as np
import pytest
from sample_networks import node_named, run_graph, sample_graph, sample_images

import graphs.evaluation
from calibration.quantizing.placement import observed_values
from calibration.rewriting.reparametrize import reparametrize
from graphs.evaluation import activations, channel_extremes, logits_of_graph
from models.config import resnet_config

IMAGES = sample_images(7)


@pytest.fixture
def model():
    return sample_graph(resnet_config("preact", 8))


def values_of(model):
    """Return the input, a value inside the graph and the output."""
    inside = node_named(model, "stage2.0.add").outputs[0]
    return [model.graph.inputs[0], inside, model.graph.outputs[0]]


@pytest.mark.parametrize(("batch", "parts"), [(100, [7]), (7, [7]), (3, [3, 3, 1]), (1, [1] * 7)])
def test_batches_hand_out_what_the_graph_computes(model, monkeypatch, batch, parts):
    monkeypatch.setattr(graphs.evaluation, "_LARGEST_BATCH", batch)
    batches = list(activations(model, values_of(model), IMAGES, ""))
    assert [len(tensors["images"]) for tensors in batches] == parts
    whole = {name: np.concatenate([tensors[name] for tensors in batches]) for name in batches[0]}
    assert list(whole) == ["images", "stage2.0.add", "logits"]
    np.testing.assert_array_equal(whole["images"], IMAGES)
    assert whole["stage2.0.add"].shape == (7, 32, 16, 16)
    assert {tensor.dtype for tensor in whole.values()} == {np.dtype(np.float32)}
    (logits,) = run_graph(model, IMAGES)
    np.testing.assert_allclose(whole["logits"], logits, atol=1e-5 * np.abs(logits).max())


def test_logits_are_those_of_all_batches(model, monkeypatch):
    (expected,) = run_graph(model, IMAGES)
    monkeypatch.setattr(graphs.evaluation, "_LARGEST_BATCH", 3)
    for optimized in (True, False):
        logits = logits_of_graph(model, IMAGES, optimized=optimized)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_graph_is_left_as_it_is(model):
    list(activations(model, values_of(model), IMAGES, ""))
    assert [value.name for value in model.graph.outputs] == ["logits"]


def test_progress_hears_of_every_batch(model, monkeypatch):
    monkeypatch.setattr(graphs.evaluation, "_LARGEST_BATCH", 3)
    heard = []

    def progress(items, description, total=None):
        for item in items:
            heard.append((description, total, item))
            yield item

    list(activations(model, values_of(model), IMAGES, "looking", progress))
    assert heard == [("looking", 3, 0), ("looking", 3, 3), ("looking", 3, 6)]


def test_extremes_are_those_of_each_channel_over_all_batches(model, monkeypatch):
    monkeypatch.setattr(graphs.evaluation, "_LARGEST_BATCH", 3)
    images, inside, _ = values_of(model)
    parts = list(activations(model, [images, inside], IMAGES, ""))
    extremes = channel_extremes(model, [images, inside], IMAGES)
    assert list(extremes) == ["images", "stage2.0.add"]
    for name, (least, greatest) in extremes.items():
        tensor = np.concatenate([tensors[name] for tensors in parts])
        assert least.shape == greatest.shape == (tensor.shape[1],)
        np.testing.assert_array_equal(least, tensor.min((0, 2, 3)))
        np.testing.assert_array_equal(greatest, tensor.max((0, 2, 3)))


def test_large_networks_run_in_small_batches():
    values = observed_values(sample_graph(resnet_config("preact", 164)))
    inside = [value for value in values if not value.is_graph_input()]
    batch = graphs.evaluation._batch_size(inside)
    # Each tensor has C x H x W elements of 4 bytes.
    image = sum(4 * int(np.prod(value.shape[1:])) for value in inside)
    assert 1 <= batch < 100
    assert batch * image <= 256 * 2**20 < (batch + 1) * image


def test_shapes_are_known_after_a_pass(model):
    """The size of a batch is computed from the shapes."""
    changed, _ = reparametrize(model, ("centre", "equalize"), IMAGES, limit=1)
    assert graphs.evaluation._dimensions(node_named(changed, "stage3.0.add").outputs[0]) == [64, 8, 8]
