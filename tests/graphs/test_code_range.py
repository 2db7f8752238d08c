"""The bounds of codes, compared with all codes that really occur."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_networks import run_graph

from graphs.code_range import largest_codes

CHANNELS = 3
ALL_CODES = np.broadcast_to(np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16), (1, CHANNELS, 16, 16))

floats = st.floats(-3, 3, width=32)
per_channel = st.lists(floats, min_size=CHANNELS, max_size=CHANNELS)


def graph(body: str, initializers: str = "", ends: str = "q2") -> ir.Model:
    """Return a graph that dequantizes codes 0..255 with zero point 0 and scale 1 into `d`, before `body`."""
    text = (
        '<ir_version: 9, opset_import: ["": 19]>'
        f"g (float[1,{CHANNELS},16,16] x) => (uint8[1,{CHANNELS},16,16] {ends}) "
        f"<float one = {{1}}, uint8 zero = {{0}}{initializers}> {{"
        f"q = QuantizeLinear(x, one, zero) d = DequantizeLinear(q, one, zero) {body} }}"
    )
    return ir.from_proto(onnx.parser.parse_model(text))


def bounds(model: ir.Model) -> np.ndarray:
    return np.broadcast_to(largest_codes(model.graph.outputs[0]), CHANNELS)


def listed(numbers: list[float]) -> str:
    return "{" + ", ".join(repr(float(n)) for n in numbers) + "}"


# ONNX Runtime rounds the third slope to 27 of 255 steps from 0 to 2.
@example(slopes=[0.0, 2.0, 0.208984375], offsets=[0.0] * 3, scale=0.25, zero_point=0, relu=False)
@settings(max_examples=100, deadline=None)
@given(
    slopes=per_channel,
    offsets=st.lists(st.floats(-300, 300, width=32), min_size=CHANNELS, max_size=CHANNELS),
    scale=st.floats(0.25, 8, width=32),
    zero_point=st.integers(0, 255),
    relu=st.booleans(),
)
def test_no_code_exceeds_its_bound(slopes, offsets, scale, zero_point, relu) -> None:
    """Every code of every channel passes through the graph, with and without fused kernels."""
    initializers = (
        f", float[{CHANNELS},1,1,1] w = {listed(slopes)}, float[{CHANNELS}] b = {listed(offsets)},"
        f" float s = {{{scale!r}}}, uint8 z = {{{zero_point}}}"
    )
    conv = f"Conv<group = {CHANNELS}>(d, w, b)"
    body = f"c = {conv} r = Relu(c)" if relu else f"r = {conv}"
    model = graph(f"{body} q2 = QuantizeLinear(r, s, z)", initializers)
    for optimized in (True, False):
        (codes,) = run_graph(model, ALL_CODES, optimized)
        assert (codes.max((0, 2, 3)) <= bounds(model)).all()


def test_bound_is_tight_to_a_code() -> None:
    """The slopes are 0.25, -1 and 0.5, as codes, which no runtime rounds again."""
    initializers = (
        f", int8[{CHANNELS},1,1,1] w = {{1, -4, 2}}, float[{CHANNELS}] s = {listed([0.25] * 3)},"
        f" int8[{CHANNELS}] z = {{0, 0, 0}}, float[{CHANNELS}] b = {{1, 10, 0}}"
    )
    body = (
        "v = DequantizeLinear<axis = 0>(w, s, z)"
        f" c = Conv<group = {CHANNELS}>(d, v, b) r = Relu(c) q2 = QuantizeLinear(r, one, zero)"
    )
    assert bounds(graph(body, initializers)).tolist() == [66, 12, 129]


def test_float_weight_may_be_off_by_a_step_of_its_whole_tensor() -> None:
    """The step is 1.5 / 255, by which 255 can be off by 1.5, and the bias takes half as much."""
    initializers = f", float[{CHANNELS},1,1,1] w = {{0.25, -1, 0.5}}, float[{CHANNELS}] b = {{1, 10, 0}}"
    body = f"c = Conv<group = {CHANNELS}>(d, w, b) r = Relu(c) q2 = QuantizeLinear(r, one, zero)"
    assert bounds(graph(body, initializers)).tolist() == [69, 14, 131]


def test_clip_bounds_all_channels_alike() -> None:
    body = "r = Clip(d, low, six) q2 = QuantizeLinear(r, one, zero)"
    model = graph(body, ", float low = {0}, float six = {6}")
    assert largest_codes(model.graph.outputs[0]).tolist() == 7


@pytest.mark.parametrize(
    ("padding", "largest"),
    [(None, 6), (np.uint8(3), 6), (np.uint8([9]), 9), (np.uint8([1, 9, 2]), 9), (np.int8(3), 255)],
    ids=["none", "below", "above", "for each channel", "of another type"],
)
def test_padding_has_the_code_that_the_reader_takes_for_zero(padding, largest: int) -> None:
    """The padding code is the zero point of the reader, which may differ from that of the quantizer."""
    body = "r = Clip(d, low, five) q2 = QuantizeLinear(r, one, zero)"
    model = graph(body, ", float low = {0}, float five = {5}")
    value = None
    if padding is not None:
        value = ir.Value(name="padding", const_value=ir.tensor(np.asarray(padding)))
    assert largest_codes(model.graph.outputs[0], value).tolist() == largest


def test_padding_that_is_not_known_may_be_any_code() -> None:
    model = graph("r = Clip(d, zero_f, one) q2 = QuantizeLinear(r, one, zero)", ", float zero_f = {0}")
    assert largest_codes(model.graph.outputs[0], model.graph.inputs[0]).tolist() == 255


@pytest.mark.parametrize(
    ("body", "initializers"),
    [
        ("q2 = QuantizeLinear(x, one, zero)", ""),
        ("r = Mul(d, one) q2 = QuantizeLinear(r, one, zero)", ""),
        ("r = Sigmoid(d) q2 = QuantizeLinear(r, one, zero)", ""),
        ("q2 = MaxPool<kernel_shape = [1, 1]>(q)", ""),
        ("c = Conv(d, w) q2 = QuantizeLinear(c, one, zero)", f", float[3,3,1,1] w = {listed([0] * 9)}"),
        ("q2 = QuantizeLinear(h, s, zero) h = Clip(d, one, one)", ", float[1] s = {0}"),
    ],
)  # fmt: skip
def test_tensor_without_a_bound_has_all_codes(body: str, initializers: str) -> None:
    assert bounds(graph(body, initializers)).tolist() == [255] * CHANNELS


def test_long_chain_ends_without_a_bound() -> None:
    links = " ".join(f"r{n + 1} = Relu(r{n})" for n in range(5000))
    model = graph(
        f"r0 = Clip(d, zero_f, one) {links} q2 = QuantizeLinear(r5000, one, zero)", ", float zero_f = {0}"
    )
    assert bounds(model).tolist() == [255] * CHANNELS


def test_float16_scales_are_not_bounded() -> None:
    """Float16 rounds far more coarsely than the 1e-5 by which intervals are widened."""
    body = "h = Cast<to = 10>(d) r = Clip(h, low, six) q2 = QuantizeLinear(r, s, zero)"
    assert (
        bounds(graph(body, ", float16 low = {0}, float16 six = {6}, float16 s = {1}")).tolist() == [255] * 3
    )


def test_dequantized_weight_counts_with_its_scale() -> None:
    initializers = (
        f", int8[{CHANNELS},1,1,1] w = {{127, 64, 32}}, float[{CHANNELS}] s = {listed([2**-7] * 3)},"
        f" int8[{CHANNELS}] z = {{0, 0, 0}}"
    )
    body = "v = DequantizeLinear<axis = 0>(w, s, z)"
    body += f" c = Conv<group = {CHANNELS}>(d, v) q2 = QuantizeLinear(c, one, zero)"
    assert bounds(graph(body, initializers)).tolist() == [255, 129, 65]
