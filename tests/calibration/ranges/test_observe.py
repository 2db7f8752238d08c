"""Observing a graph: every element counts once, whatever the batch size and the order of the images."""

import pytest
from sample_networks import sample_graph, sample_images

import graphs.evaluation
from calibration.ranges.methods import Method
from calibration.ranges.observer import Observer
from calibration.ranges.ranges_from_graph import (
    observe,
)
from models.config import resnet_config


@pytest.mark.parametrize("batch", [1, 7])
def test_ranges_do_not_depend_on_the_batch_size(monkeypatch, batch):
    images = sample_images(15)
    model = sample_graph(resnet_config("preact", 8))
    whole = observe(model, images)
    monkeypatch.setattr(graphs.evaluation, "_LARGEST_BATCH", batch)
    parts = observe(model, images)
    assert list(parts) == list(whole)
    for name, observer in whole.items():
        histogram, other = observer.histogram, parts[name].histogram
        assert other.counts.sum() == histogram.counts.sum()
        assert other.exponent == histogram.exponent
        # The kernels may round differently for another batch size, and the histogram must count all the same.
        width = histogram.width
        for method in (Method(), Method("minmax")):
            near = pytest.approx(tuple(method.range_of(histogram)), abs=1.01 * width)
            assert tuple(method.range_of(other)) == near, name
        assert parts[name].channel_means() == pytest.approx(observer.channel_means(), abs=width)


def test_order_of_the_images_does_not_matter():
    images = sample_images(8)
    model = sample_graph(resnet_config("original", 8))
    forwards, backwards = observe(model, images), observe(model, images[::-1])
    for name, observer in forwards.items():
        histogram, other = observer.histogram, backwards[name].histogram
        assert other.maximum == pytest.approx(histogram.maximum, rel=1e-5, abs=1e-6)
        near = pytest.approx(histogram.quantile(0.999), abs=1.01 * histogram.width)
        assert other.quantile(0.999) == near
        near = pytest.approx(observer.channel_means(), abs=histogram.width)
        assert backwards[name].channel_means() == near


def test_every_element_of_every_image_is_counted():
    observers = observe(sample_graph(resnet_config("preact", 8)), sample_images(3))
    assert all(isinstance(observer, Observer) for observer in observers.values())
    for name, shape in (("images", (3, 32)), ("stem.conv", (16, 32)), ("stage3.0.add", (64, 8))):
        channels, size = shape
        assert observers[name].histogram.counts.sum() == 3 * channels * size * size
        assert observers[name].channel_means().shape == (channels,)
