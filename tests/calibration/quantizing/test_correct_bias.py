import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sample_networks import node_named, run_graph, sample_graph, sample_images

from calibration.quantizing.correct_bias import corrections_of, mean_error
from calibration.quantizing.scales import weight_codes, weight_scales
from graphs.onnx_file import add_to_bias, constant, initializer, replace_constant
from graphs.streams import streams_of
from models.config import resnet_config


def wrapped_convolution(images, weight, groups):
    """Let the border read the opposite edge, so that every weight meets every pixel once."""
    pad = weight.shape[2] // 2
    padded = torch.nn.functional.pad(torch.from_numpy(images), (pad,) * 4, mode="circular")
    return torch.nn.functional.conv2d(padded, torch.from_numpy(weight), groups=groups).numpy()


@given(
    seed=st.integers(0, 2**32),
    groups=st.sampled_from([1, 2, 3]),
    width=st.integers(1, 4),
    outputs=st.integers(1, 3),
    kernel=st.sampled_from([1, 3]),
)
def test_it_is_the_mean_error_of_a_convolution(seed, groups, width, outputs, kernel):
    generator = np.random.default_rng(seed)
    images = generator.gamma(1, size=(3, groups * width, 5, 4))
    weight = generator.standard_normal((groups * outputs, width, kernel, kernel))
    rounded = weight + generator.normal(0, 0.1, weight.shape)
    error = wrapped_convolution(images, rounded, groups) - wrapped_convolution(images, weight, groups)
    mean = mean_error(weight, rounded, images.mean((0, 2, 3)))
    assert (mean.shape, mean.dtype) == ((groups * outputs,), np.float64)
    np.testing.assert_allclose(mean, error.mean((0, 2, 3)), atol=1e-10)


def test_depthwise_convolution_by_hand():
    weight = np.array([1, 2, 3], np.float32).reshape(3, 1, 1, 1)
    rounded = weight.astype(np.float64) + np.array([0.5, 0, -1]).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(mean_error(weight, rounded, np.array([2.0, 3.0, 4.0])), [1, 0, -4])


def test_weights_that_are_exact_need_no_correction():
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    assert not mean_error(weight, weight.astype(np.float64), np.ones(2)).any()


@pytest.mark.parametrize("saturation_safe", [False, True])
def test_correction_takes_off_the_bias_of_rounding(saturation_safe):
    """The error of 8-bit weights behind a ReLU has mean zero and less power afterwards."""
    generator = np.random.default_rng(0)
    images = generator.gamma(1, size=(4, 16, 8, 8))
    weight = generator.standard_normal((8, 16, 3, 3)).astype(np.float32)
    scales = weight_scales(weight, saturation_safe).astype(np.float64)
    rounded = weight_codes(weight, scales) * scales.reshape(-1, 1, 1, 1)
    exact = wrapped_convolution(images, weight.astype(np.float64), 1)
    error = wrapped_convolution(images, rounded, 1) - exact
    corrected = error - mean_error(weight, rounded, images.mean((0, 2, 3)))[:, None, None]
    assert np.abs(corrected.mean((0, 2, 3))).max() < 1e-6 * np.abs(error.mean((0, 2, 3))).max()
    assert np.square(corrected).sum() < 0.8 * np.square(error).sum()


def corrected(through_batchnorm):
    """Add a constant to what each convolution of six blocks writes, and correct biases and means for it."""
    model = sample_graph(resnet_config("preact", 14))
    rng = np.random.default_rng(0)
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    errors = {conv.name: rng.normal(0, 0.3, len(constant(conv.inputs[1]))) for conv in convolutions}
    corrections = corrections_of(model, errors, through_batchnorm)
    for conv in convolutions:
        error = initializer(model.graph, f"{conv.name}.e", column(errors[conv.name]))
        shift = ir.node("Add", [conv.outputs[0], error])
        shift.outputs[0].name = f"{conv.name}.off"
        ir.convenience.replace_all_uses_with(conv.outputs[0], shift.outputs[0])
        shift.replace_input_with(0, conv.outputs[0])
        model.graph.insert_after(conv, shift)
        if conv.name in corrections.biases:
            add_to_bias(model.graph, conv, corrections.biases[conv.name])
    for name, change in corrections.means.items():
        mean = node_named(model, name).inputs[3]
        replace_constant(mean, constant(mean) + change)
    return model


def column(values):
    return values.astype(np.float32).reshape(1, -1, 1, 1)


@pytest.mark.parametrize("through_batchnorm", [False, True])
def test_correction_takes_constant_errors_out(through_batchnorm):
    images = sample_images(2)
    (expected,) = run_graph(sample_graph(resnet_config("preact", 14)), images)
    (actual,) = run_graph(corrected(through_batchnorm), images)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_through_batchnorm_no_writer_of_the_stream_gets_a_bias():
    def without_bias(model):
        return {node.name for node in model.graph if node.op_type == "Conv" and len(node.inputs) == 2}

    writers = {
        conv.name
        for stream in streams_of(sample_graph(resnet_config("preact", 14)))
        for convs in stream.writers
        for conv in convs
    }
    assert without_bias(corrected(through_batchnorm=True)) == writers
    assert without_bias(corrected(through_batchnorm=False)) == set()
