"""QuantizeLinear in arithmetic: the same codes, and left alone where no float convolution writes them."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import op_types, run_graph

from calibration.quantizing.quantize_in_epilogues import ROUNDER, QuantizeInEpilogues

FLOAT_WEIGHT, CODES = "c = Conv(x, w)", "wd = DequantizeLinear(wq, s, z)  c = Conv(x, wd)"


def graph(body, value="c"):
    """`value` behind a convolution is quantized and dequantized again."""
    text = f"""
        <ir_version: 9, opset_import: ["" : 19]>
        g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] out)
        <float[4, 4, 1, 1] w = {{ {", ".join("1" if i % 5 == 0 else "0" for i in range(16))} }},
         int8[4, 4, 1, 1] wq = {{ {", ".join("1" if i % 5 == 0 else "0" for i in range(16))} }},
         float s = {{0.5}}, int8 z = {{0}}>
        {{ {body}
           q = QuantizeLinear({value}, s, z)
           out = DequantizeLinear(q, s, z) }}
    """
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    for number, node in enumerate(model.graph):
        node.name = "quantize" if node.op_type == "QuantizeLinear" else f"node{number}"
    return model


def images(values):
    found = np.zeros(256, np.float32)
    found[: len(values)] = values
    return found.reshape(1, 4, 8, 8)


HALVES = [0.25, 0.75, 1.25, -0.25, -0.75, 63.25, 63.5, 63.75, 1e4, -1e4, -64.25, -64, 0, 31.75]


@pytest.mark.parametrize("values", [HALVES], ids=["ties and limits"])
def test_codes_are_those_of_quantize_linear(values):
    before, after = graph(FLOAT_WEIGHT), graph(FLOAT_WEIGHT)
    assert QuantizeInEpilogues()(after).changed == ("quantize",)
    assert "QuantizeLinear" not in op_types(after)
    assert op_types(after) == ["Conv", "Cast", "Div", "Clip", "Add", "Sub", "Cast", "DequantizeLinear"]
    expected, found = (run_graph(model, images(values), optimized=False)[0] for model in (before, after))
    np.testing.assert_array_equal(found, expected)
    assert {found.min(), found.max()} == {-64, 63.5}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=256))
def test_adding_the_rounder_rounds_halves_to_even(values):
    clipped = np.clip(np.array(values, np.float32), -128, 127)
    rounded = (clipped + np.float32(ROUNDER)) - np.float32(ROUNDER)
    np.testing.assert_array_equal(rounded, np.rint(clipped))


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w)  c = Relu(a)",
        "a = Conv(x, w)  b = Add(a, x)  c = Relu(b)",
        "wd = DequantizeLinear(wq, s, z)  p = Conv(x, wd)  a = Conv(x, w)  b = Add(p, a)  c = Relu(b)",
    ],
    ids=["relu", "skip path", "projection in codes"],
)
def test_epilogue_may_be_longer(body):
    before, after = graph(body), graph(body)
    assert QuantizeInEpilogues()(after).changed == ("quantize",)
    expected, found = (run_graph(model, images(HALVES), optimized=False)[0] for model in (before, after))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("c = Relu(x)", "c"),
        (CODES, "c"),
        (f"{FLOAT_WEIGHT}  d = Neg(c)", "c"),
        ("a = Conv(x, w)  c = Relu(a)  d = Neg(a)", "c"),
    ],
    ids=["no convolution", "a quantized one", "others read the tensor", "others read the sum"],
)
def test_others_are_left(body, value):
    """Twins of the above: a kernel of its own writes these codes."""
    model = graph(body, value)
    assert QuantizeInEpilogues()(model).refused.keys() == {"quantize"}
    assert op_types(model).count("QuantizeLinear") == 1
    assert not [name for name in model.graph.initializers if name.startswith("epilogue.")]


def test_fp8_is_left():
    model = graph(FLOAT_WEIGHT)
    model.graph.initializers["z"].const_value = ir.tensor(
        np.zeros((), ir.DataType.FLOAT8E4M3FN.numpy()), name="z"
    )
    assert QuantizeInEpilogues()(model).refused.keys() == {"quantize"}


def test_scale_is_the_rounded_one_in_float32():
    """The codes are dequantized by the float16 scale, and quantized by the same number."""
    model = graph(FLOAT_WEIGHT)
    model.graph.initializers["s"].const_value = ir.tensor(np.float16(0.1), name="s")
    QuantizeInEpilogues()(model)
    (divide,) = (node for node in model.graph if node.op_type == "Div")
    scale = divide.inputs[1].const_value.numpy()
    assert scale.dtype == np.float32
    assert scale == np.float16(0.1)
