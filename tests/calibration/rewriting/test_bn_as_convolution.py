import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from sample_networks import node_named, op_types, run_graph, sample_card, sample_graph, sample_images

from calibration.rewriting.bn_as_convolution import BatchnormAsConvolution
from graphs.onnx_file import OPSET, constant, initializer, write_graph
from graphs.passes import PassResult
from models.config import resnet_config

REMAINING = {
    ("preact", 8): ["stage1.0.preact.bn1", "stage2.0.preact.bn1", "stage3.0.preact.bn1", "head.bn"],
    ("preact", 11): ["stage2.0.preact.bn1", "stage3.0.preact.bn1", "head.bn"],
    ("original", 8): [],
}
PARAMETERS = ("weight", "bias", "mean", "var")


def batchnorm_graph(parameters, names=("bn",), epsilon=1e-5):
    """Make a graph of BN layers in a row, all with the same parameters."""
    channels = len(parameters[0])
    shape = ir.Shape(["batch", channels, 4, 4])
    value = ir.Value(name="images", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    graph = ir.Graph([value], [], nodes=[], name="g", opset_imports={"": OPSET})
    constants = [initializer(graph, f"bn.{n}", a) for n, a in zip(PARAMETERS, parameters, strict=True)]
    for name in names:
        node = ir.node("BatchNormalization", [value, *constants], {"epsilon": epsilon}, name=name)
        graph.append(node)
        value = node.outputs[0]
        value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.FLOAT), shape
    last = ir.node("Identity", [value], name="last")
    last.outputs[0].name, last.outputs[0].type, last.outputs[0].shape = "logits", value.type, shape
    graph.append(last)
    graph.outputs.append(last.outputs[0])
    return ir.Model(graph, ir_version=9)


def parameters_of(channels, seed=0):
    generator = np.random.default_rng(seed)
    gamma, beta, mean = generator.standard_normal((3, channels)).astype(np.float32)
    return gamma, beta, mean, generator.uniform(0.01, 3, channels).astype(np.float32)


def evaluated(model, images):
    return ReferenceEvaluator(ir.to_proto(model)).run(None, {"images": images})[0]


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_convolution_is_the_batchnorm_but_for_rounding(seed, epsilon):
    parameters = parameters_of(6, seed)
    model = batchnorm_graph(parameters, epsilon=epsilon)
    images = np.random.default_rng(seed).standard_normal((2, 6, 4, 4)).astype(np.float32)
    gamma, beta, mean, variance = (p.astype(np.float64)[:, None, None] for p in parameters)
    expected = gamma * (images - mean) / np.sqrt(variance + epsilon) + beta
    np.testing.assert_allclose(evaluated(model, images), expected, atol=2e-5)
    assert BatchnormAsConvolution()(model) == PassResult("bn_as_convolution", ("bn",))
    actual = evaluated(model, images)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_convolution_is_depthwise_with_one_weight_a_channel():
    model = batchnorm_graph(parameters_of(6))
    BatchnormAsConvolution()(model)
    conv = node_named(model, "bn")
    assert conv.op_type == "Conv"
    assert conv.attributes["group"].as_int() == 6
    weight, bias = constant(conv.inputs[1]), constant(conv.inputs[2])
    assert (weight.shape, weight.dtype) == ((6, 1, 1, 1), np.float32)
    assert (bias.shape, bias.dtype) == ((6,), np.float32)


def test_parameters_are_removed_with_the_last_that_reads_them():
    model = batchnorm_graph(parameters_of(6), names=("first", "second"))
    images = np.random.default_rng(0).standard_normal((2, 6, 4, 4)).astype(np.float32)
    expected = evaluated(model, images)
    assert BatchnormAsConvolution()(model).changed == ("first", "second")
    assert set(model.graph.initializers) == {"first.slope", "first.offset", "second.slope", "second.offset"}
    np.testing.assert_allclose(evaluated(model, images), expected, atol=1e-4)


@pytest.mark.parametrize(("variant", "depth"), REMAINING)
def test_every_batchnorm_of_a_network_is_rewritten(tmp_path, variant, depth):
    config = resnet_config(variant, depth)
    model = sample_graph(config)
    images = sample_images(3)
    (expected,) = run_graph(model, images)
    before = op_types(model)
    assert list(BatchnormAsConvolution()(model).changed) == REMAINING[variant, depth]
    assert op_types(model) == ["Conv" if op == "BatchNormalization" else op for op in before]
    assert not [name for name in model.graph.initializers if name.endswith((".mean", ".var"))]
    write_graph(model, sample_card(config), tmp_path / "model.onnx")
    (actual,) = run_graph(tmp_path / "model.onnx", images)
    assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_values_keep_their_names_and_consumers():
    model = sample_graph(resnet_config("preact", 8))
    BatchnormAsConvolution()(model)
    conv = node_named(model, "stage2.0.preact.bn1")
    assert conv.inputs[0].name == "stage1.0.add"
    assert conv.outputs[0].name == "stage2.0.preact.bn1"
    assert [node.name for node, _ in conv.outputs[0].uses()] == ["stage2.0.preact.relu1"]
