"""The scales of activations, and what ONNX Runtime makes of values that are quantized by them."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.quantizing.scales import Range, activation_scale

# The scale is rounded to float32 once, and so is the quotient.
ROUNDING = 1 + 2.0**-21
SMALLEST_SCALE = float(np.finfo(np.float16).tiny)
magnitudes = st.floats(2.0**-20, 2.0**15, width=32)
ranges = st.tuples(magnitudes | st.just(0.0), magnitudes | st.just(0.0)).map(
    lambda r: Range.spanning(-r[0], r[1])
)
types = st.sampled_from(["uint8", "int8"])
relaxed = settings(deadline=None)


def quantize_session(code_type):
    """Return a session that runs QuantizeLinear and DequantizeLinear without any optimization."""
    proto = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 19]>
        g (float[N] x, float scale, {code_type} zero_point) => ({code_type}[N] codes, float[N] back) {{
            codes = QuantizeLinear(x, scale, zero_point)
            back = DequantizeLinear(codes, scale, zero_point)
        }}""")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


SESSIONS = {"uint8": quantize_session("uint8"), "int8": quantize_session("int8")}


def round_trip(values, value_range, kind):
    """Quantize values over a range; return the codes, the dequantized values and the scale."""
    scale = activation_scale(value_range, symmetric=kind == "int8")
    feed = {
        "x": np.asarray(values, np.float32),
        "scale": np.asarray(scale.scale),
        "zero_point": np.asarray(scale.zero_point),
    }
    codes, back = SESSIONS[kind].run(None, feed)
    return codes, back.astype(np.float64), float(scale.scale)


@given(value_range=ranges, kind=types, places=arrays(np.float64, 20, elements=st.floats(0, 1)))
@relaxed
def test_error_inside_the_range_is_at_most_half_a_step(value_range, kind, places):
    low, high, _ = value_range
    values = np.append(low + places * (high - low), [low, high, 0]).astype(np.float32)
    _, back, scale = round_trip(values, value_range, kind)
    assert (np.abs(back - values) <= scale / 2 * ROUNDING + 1e-6 * np.abs(values)).all()


@given(value_range=ranges, kind=types)
@relaxed
def test_zero_is_exact(value_range, kind):
    _, back, _ = round_trip([0.0, -0.0], value_range, kind)
    np.testing.assert_array_equal(back, 0)


@given(value_range=ranges, kind=types, beyond=st.floats(300, 1e5))
@relaxed
def test_values_outside_the_range_saturate(value_range, kind, beyond):
    step = float(activation_scale(value_range, symmetric=kind == "int8").scale)
    values = [value_range.low - beyond * step, value_range.high + beyond * step]
    codes, back, _ = round_trip(values, value_range, kind)
    if kind == "uint8":
        assert codes.tolist() == [0, 255]
        # The zero point is rounded, so that the lower end may be off by half a step.
        assert back[0] == pytest.approx(value_range.low, abs=0.501 * step)
    else:
        assert codes.tolist() == [-128, 127]


@given(value_range=ranges, kind=types)
@relaxed
def test_activation_scale_has_the_codes_type_and_is_usable(value_range, kind):
    scale = activation_scale(value_range, symmetric=kind == "int8")
    assert scale.scale.dtype == np.float32
    assert scale.zero_point.dtype == (np.uint8 if kind == "uint8" else np.int8)
    assert np.isfinite(scale.scale)
    assert float(scale.scale) >= SMALLEST_SCALE
    if kind == "int8" or value_range.low == 0:
        assert scale.zero_point == 0


@pytest.mark.parametrize(
    ("value_range", "scale", "zero_point"),
    [
        ((0, 255), 1, 0),
        ((-255, 0), 1, 255),
        ((-1, 1.55), 0.01, 100),
        # The range always contains zero, even if both of its ends lie on one side.
        ((51, 510), 2, 0),
        ((-510, -51), 2, 255),
        ((0, 0), 1, 0),
    ],
)
def test_uint8_scale_by_hand(value_range, scale, zero_point):
    chosen = activation_scale(Range.spanning(*value_range), symmetric=False)
    assert (chosen.scale, chosen.zero_point) == (pytest.approx(scale), zero_point)


@pytest.mark.parametrize(
    ("value_range", "scale"), [((0, 127), 1), ((-254, 127), 2), ((-3, 25.4), 0.2), ((0, 0), 1)]
)
def test_int8_scale_by_hand(value_range, scale):
    chosen = activation_scale(Range.spanning(*value_range), symmetric=True)
    assert (chosen.scale, chosen.zero_point) == (pytest.approx(scale), 0)


def test_each_type_has_its_own_clip_point():
    both = Range(-1, 254, 12.7)
    assert activation_scale(both, symmetric=False).scale == 1
    assert activation_scale(both, symmetric=True).scale == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_ties_go_to_even(kind):
    top = 255 if kind == "uint8" else 127
    codes, _, scale = round_trip([0.5, 1.5, 2.5, 3.5, 100.5], Range.spanning(0, top), kind)
    assert scale == 1
    assert codes.tolist() == [0, 2, 2, 4, 100]


@given(value_range=ranges)
@relaxed
def test_uint8_scale_is_torchs(value_range):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        observer = torch.ao.quantization.MinMaxObserver(
            dtype=torch.quint8, qscheme=torch.per_tensor_affine, eps=SMALLEST_SCALE
        )
    if not value_range.amax:
        return  # torch gives its smallest scale for an empty range
    observer(torch.tensor(value_range[:2]))
    scale, zero_point = observer.calculate_qparams()
    chosen = activation_scale(value_range, symmetric=False)
    assert float(chosen.scale) == pytest.approx(float(scale), rel=1e-6)
    # A quotient that is a tie may round up or down.
    assert abs(int(chosen.zero_point) - int(zero_point)) <= 1
