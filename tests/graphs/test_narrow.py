import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from sample_networks import (
    FOUR_BLOCKS,
    node_named,
    op_types,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
)

from errors import CheckFailed
from graphs.narrow import TYPES, Narrow
from graphs.onnx_file import constant, graph_from_file, initializer, write_graph
from graphs.passes import PassResult
from graphs.rounding import ExplicitRounding
from models.config import resnet_config

LARGEST = 65504.0


def narrowed(variant="preact", depth=8, precision="fp16"):
    model = sample_graph(resnet_config(variant, depth))
    Narrow(precision)(model)
    return model


def evaluated(model, images):
    """Evaluate by ONNX's reference implementation.

    ONNX Runtime has no float16 kernels on x86. The runtime puts Casts around each operator, takes these out
    again in pairs, and so rounds nothing in between.
    """
    return ReferenceEvaluator(ir.to_proto(model)).run(None, {"images": images})[0]


def with_bias(value):
    model = sample_graph(resnet_config("preact", 8))
    bias = node_named(model, "classifier").inputs[2]
    array = constant(bias).copy()
    array[3] = value
    bias.const_value = ir.tensor(array, name=bias.name)
    return model


@pytest.mark.parametrize(("precision", "dtype"), TYPES.items())
@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_every_tensor_inside_is_narrow_and_the_border_float32(tmp_path, variant, depth, precision, dtype):
    config = resnet_config(variant, depth)
    write_graph(narrowed(variant, depth, precision), sample_card(config), tmp_path / "narrow.onnx")
    # The file is read back, so that the types are the checker's and not those that the pass noted down.
    model = graph_from_file(tmp_path / "narrow.onnx")
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.FLOAT] * 2
    inside = [node.outputs[0] for node in model.graph if node.outputs[0] not in model.graph.outputs]
    assert {value.dtype for value in inside} == {dtype}
    assert {value.dtype for value in model.graph.initializers.values()} == {dtype}


def test_casts_stand_at_the_border_alone():
    before, after = sample_graph(resnet_config("preact", 8)), narrowed()
    assert op_types(after) == ["Cast", *op_types(before), "Cast"]
    assert [v.name for v in (*after.graph.inputs, *after.graph.outputs)] == ["images", "logits"]


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_logits_are_close_but_not_equal(variant, depth):
    images = sample_images(2)
    expected = run_graph(sample_graph(resnet_config(variant, depth)), images)[0]
    logits = evaluated(narrowed(variant, depth), images)
    assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 0 < error < 1e-2
    # Every logit is a float16 number cast to float32, so the arithmetic really was half.
    np.testing.assert_array_equal(logits, logits.astype(np.float16))


def test_batch_stays_dynamic():
    model = narrowed()
    images = sample_images(3)
    together, alone = run_graph(model, images)[0], run_graph(model, images[:1])[0]
    assert together.shape == (3, 10)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-3, atol=1e-3)


def test_converted_initializers_are_named():
    model = sample_graph(resnet_config("preact", 8))
    floats = tuple(model.graph.initializers)
    codes = initializer(model.graph, "codes", np.zeros(4, np.int8))
    assert Narrow("fp16")(model) == PassResult("narrow", floats)
    assert codes.dtype == ir.DataType.INT8


def test_weights_are_rounded_to_nearest():
    weight = constant(node_named(sample_graph(resnet_config("preact", 8)), "stem.conv").inputs[1])
    half = constant(node_named(narrowed(), "stem.conv").inputs[1])
    assert half.dtype == np.float16
    # float16 has 11 significant bits, so rounding is off by half a unit in the last of them.
    assert (np.abs(half - weight) <= 2.0**-11 * np.abs(weight) + 2.0**-25).all()


@pytest.mark.parametrize("value", [LARGEST + 32, -1e5, np.inf])
def test_weight_beyond_float16_is_refused_and_named(value):
    with pytest.raises(CheckFailed, match=r"classifier\.bias .*65504"):
        Narrow("fp16")(with_bias(value))


def with_variance(value):
    """Give one channel of a BN this variance, and a scale that makes up for the variance."""
    model = sample_graph(resnet_config("preact", 8))
    node = node_named(model, "stage2.0.preact.bn1")
    squares = constant(node.inputs[4])
    factors = np.ones_like(squares)
    factors[2] = value / squares[2]
    scaled = (
        (node.inputs[1], constant(node.inputs[1]) * np.sqrt(factors)),
        (node.inputs[4], squares * factors),
    )
    for initial, array in scaled:
        initial.const_value = ir.tensor(array.astype(np.float32), name=initial.name)
    return model


@pytest.mark.parametrize("value", [LARGEST - 1, 2.1e6, 3e9])
def test_variance_beyond_float16_is_brought_within_reach(value):
    model, images = with_variance(value), sample_images(4)
    (wanted,) = run_graph(model, images)
    Narrow("fp16")(model)
    variance = constant(node_named(model, "stage2.0.preact.bn1").inputs[4])
    assert variance.dtype == np.float16 and LARGEST / 4 - 32 <= variance[2] <= LARGEST
    error = evaluated(model, images) - wanted
    assert 0 < np.abs(error).max() < 0.02 * np.abs(wanted).max()


def test_variance_that_is_infinite_is_refused():
    with pytest.raises(CheckFailed, match=r"stage2\.0\.preact\.bn1\.(weight|var) holds inf"):
        Narrow("fp16")(with_variance(np.inf))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.4e38])
def test_weight_beyond_bfloat16_is_refused_and_named(value):
    with pytest.raises(CheckFailed, match=r"classifier\.bias .*bfloat16's 3\.38953e\+38"):
        Narrow("bf16")(with_bias(value))


def test_weights_are_rounded_to_the_nearest_bfloat16():
    weight = constant(node_named(sample_graph(resnet_config("preact", 8)), "stem.conv").inputs[1])
    stored = constant(node_named(narrowed(precision="bf16"), "stem.conv").inputs[1])
    np.testing.assert_array_equal(stored.astype(np.float32), rounded_to_bfloat16(weight))


@pytest.mark.parametrize("variant", ["preact", "original"])
def test_logits_of_bfloat16_are_those_of_numpy_rounded_after_every_operator(variant):
    """The twin convolves in float32 and rounds bits, because ONNX's evaluator has no bfloat16 convolution."""
    model, images = narrowed(variant, precision="bf16"), sample_images(2)
    expected = emulated(model, images)
    ExplicitRounding()(model)
    (logits,) = run_graph(model, images, optimized=False)
    np.testing.assert_array_equal(logits, rounded_to_bfloat16(logits))
    # Sums in another order may round to the neighbour, 2^-8 away, here and there.
    assert np.abs(logits - expected).max() <= 2.0**-6 * np.abs(expected).max()
    (float32,) = run_graph(sample_graph(resnet_config(variant, 8)), images)
    assert np.abs(logits - expected).max() < np.abs(logits - float32).max()


def rounded_to_bfloat16(values):
    """Keep the upper half of the bits, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def emulated(model, images):
    """Run each operator alone in float32 on rounded operands, and round the result."""
    values = {"images": images}
    for name, value in model.graph.initializers.items():
        values[name] = constant(value).astype(np.float32)
    for node in model.graph:
        operands = {f"x{i}": values[value.name] for i, value in enumerate(node.inputs)}
        if node.op_type == "Cast":
            result = operands["x0"]
        else:
            proto = ir.to_proto(node)
            made = onnx.helper.make_node(node.op_type, list(operands), ["y"])
            made.attribute.extend(proto.attribute)
            (result,) = ReferenceEvaluator(
                onnx.helper.make_model(
                    onnx.helper.make_graph(
                        [made],
                        "one",
                        [onnx.helper.make_tensor_value_info(n, 1, a.shape) for n, a in operands.items()],
                        [onnx.helper.make_tensor_value_info("y", 1, None)],
                    ),
                    opset_imports=[onnx.helper.make_opsetid("", 22)],
                )
            ).run(None, operands)
        values[node.outputs[0].name] = rounded_to_bfloat16(result)
    return values["logits"]


@pytest.mark.parametrize("value", [LARGEST, -LARGEST])
def test_largest_float16_is_kept(value):
    model = with_bias(value)
    Narrow("fp16")(model)
    assert constant(node_named(model, "classifier").inputs[2])[3] == value
