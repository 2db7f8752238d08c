import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import (
    TWO_BLOCKS,
    absorbable_network,
    graph_of,
    node_named,
    relative_error,
    run_graph,
    sample_graph,
    sample_images,
)

from calibration.rewriting.absorb_batchnorm import AbsorbBatchnorm
from calibration.rewriting.equalize_stream import CentreStream, EqualizeStream
from graphs.evaluation import channel_extremes
from graphs.onnx_file import constant, replace_constant
from graphs.streams import streams_of
from models.config import resnet_config

PREACT = [config for config in TWO_BLOCKS if config.variant == "preact"]
ORIGINAL = [config for config in TWO_BLOCKS if config.variant == "original"]
BASIC = PREACT[0]
IMAGES = sample_images(4)
MIDDLE = "stage1.1.preact.bn1"


def extremes_of(model):
    values = [value for stream in streams_of(model) for value in stream.scaled]
    return channel_extremes(model, values, IMAGES)


def names_of(model):
    """Return the names of what the streams carry, without what is added into them."""
    return {str(value.name) for stream in streams_of(model) for value in stream.values}


def reaches_of(model):
    """Return the greatest magnitude of each channel of each stream, over all that shares the factor."""
    extremes = extremes_of(model)
    return [
        np.max([np.abs(end) for value in stream.scaled for end in extremes[value.name]], axis=0)
        for stream in streams_of(model)
    ]


def bytes_of(model):
    return ir.to_proto(model).SerializeToString(deterministic=True)


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("config", TWO_BLOCKS, ids=lambda config: f"{config.variant} {config.block}")
def test_every_channel_of_a_stream_reaches_as_far_afterwards(config, absorbed):
    model = graph_of(absorbable_network(config))
    if absorbed:
        AbsorbBatchnorm()(model)
    (expected,) = run_graph(model, IMAGES)
    before = reaches_of(model)
    assert all(reach.max() > 1.1 * reach.min() for reach in before)
    assert EqualizeStream(extremes_of(model))(model).refused == {}
    for reach, was in zip(reaches_of(model), before, strict=True):
        # Behind a ReLU, a channel of an untrained network may be always zero.
        assert np.array_equal(reach > 0, was > 0)
        np.testing.assert_allclose(reach[was > 0], was.max(), rtol=1e-4)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


@pytest.mark.parametrize("config", PREACT, ids=lambda config: config.block)
def test_every_channel_lies_around_zero_afterwards(config):
    model = sample_graph(config)
    (expected,) = run_graph(model, IMAGES)
    before = extremes_of(model)
    assert CentreStream(before)(model).refused == {}
    after = extremes_of(model)
    for name in names_of(model):
        least, greatest = after[name]
        span = (before[name].greatest - before[name].least) / 2
        np.testing.assert_allclose(greatest, span, rtol=1e-4)
        np.testing.assert_allclose(least, -span, rtol=1e-4)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


def test_both_make_every_channel_reach_as_far():
    model = sample_graph(BASIC)
    (expected,) = run_graph(model, IMAGES)
    CentreStream(extremes_of(model))(model)
    EqualizeStream(extremes_of(model))(model)
    for reach in reaches_of(model):
        np.testing.assert_allclose(reach, reach.max(), rtol=1e-4)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(TWO_BLOCKS), st.integers(0, 2**32), st.floats(0, 1e4))
def test_network_stays_the_same_whatever_the_extremes(config, seed, size):
    """Extremes of other images change how far the channels reach, and not what the network computes."""
    model, generator = sample_graph(config), np.random.default_rng(seed)
    (expected,) = run_graph(model, IMAGES)
    extremes = {
        name: type(ends)(*np.sort(generator.uniform(-size, size, (2, len(ends.least))), axis=0))
        for name, ends in extremes_of(model).items()
    }
    EqualizeStream(extremes)(model)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


@pytest.mark.parametrize("config", ORIGINAL, ids=lambda config: config.block)
def test_original_stream_cannot_be_centred(config):
    model = sample_graph(config)
    before = bytes_of(model)
    refused = CentreStream(extremes_of(model))(model).refused
    assert set(refused) == names_of(model)
    assert set(refused.values()) == {"no BN alone reads this value, so a shift would not be exact"}
    assert bytes_of(model) == before


def test_only_what_a_kept_batchnorm_reads_is_centred_after_absorbing():
    model = graph_of(absorbable_network(BASIC))
    gamma = node_named(model, MIDDLE).inputs[1]
    replace_constant(gamma, -constant(gamma))
    (expected,) = run_graph(model, IMAGES)
    assert list(AbsorbBatchnorm()(model).refused) == [MIDDLE]
    refused = CentreStream(extremes_of(model))(model).refused
    extremes = extremes_of(model)
    assert names_of(model) - set(refused) == {"stage1.0.add"}
    least, greatest = extremes["stage1.0.add"]
    np.testing.assert_allclose(greatest, -least, rtol=1e-4)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5


def silence(model, stream, channels):
    """Let nothing be written into some channels of an original stream."""
    for writers in stream.writers:
        for conv in writers:
            for parameter in conv.inputs[1:]:
                array = constant(parameter).copy()
                array[channels] = 0
                replace_constant(parameter, array)


def test_channel_that_is_always_zero_keeps_its_scale():
    model = sample_graph(ORIGINAL[0])
    silence(model, streams_of(model)[1], [3, 5])
    reader = node_named(model, "stage2.1.residual.conv1")
    before = constant(reader.inputs[1])
    assert EqualizeStream(extremes_of(model))(model).refused == {}
    after = constant(reader.inputs[1])
    np.testing.assert_array_equal(after[:, [3, 5]], before[:, [3, 5]])
    assert (after != before).mean() > 0.9
    reach = reaches_of(model)[1]
    assert (reach[[3, 5]] == 0).all()
    np.testing.assert_allclose(np.delete(reach, [3, 5]), reach.max(), rtol=1e-4)


def test_channel_that_is_nearly_always_zero_stays_small():
    model = sample_graph(BASIC)
    extremes = extremes_of(model)
    members = {str(value.name) for value in streams_of(model)[0].scaled}
    for name in members:
        extremes[name].least[3] = extremes[name].greatest[3] = 1e-20
    before = constant(node_named(model, "stem.conv").inputs[1])
    EqualizeStream(extremes)(model)
    grown = constant(node_named(model, "stem.conv").inputs[1]) / before
    np.testing.assert_allclose(grown[3], 2**10, rtol=1e-6)
    assert grown.max() <= 2**10


def test_stream_that_is_always_zero_is_left_and_named():
    model = sample_graph(ORIGINAL[0])
    silence(model, streams_of(model)[0], slice(None))
    conv = node_named(model, "stem.conv")
    reader = constant(node_named(model, "stage1.0.residual.conv1").inputs[1])
    refused = EqualizeStream(extremes_of(model))(model).refused
    assert refused == {"stem.relu": "the stream that begins here is always zero"}
    np.testing.assert_array_equal(constant(conv.inputs[1]), 0)
    np.testing.assert_array_equal(constant(node_named(model, "stage1.0.residual.conv1").inputs[1]), reader)
    for reach in reaches_of(model)[1:]:
        np.testing.assert_allclose(reach[reach > 0], reach.max(), rtol=1e-4)


def test_depth_without_identity_skips_has_streams_of_one_value():
    model = sample_graph(resnet_config("preact", 11))
    assert [len(stream.values) for stream in streams_of(model)] == [1, 1, 1]
    (expected,) = run_graph(model, IMAGES)
    assert CentreStream(extremes_of(model))(model).refused == {}
    assert EqualizeStream(extremes_of(model))(model).refused == {}
    for reach in reaches_of(model):
        np.testing.assert_allclose(reach, reach.max(), rtol=1e-4)
    assert relative_error(expected, run_graph(model, IMAGES)[0]) < 1e-5
