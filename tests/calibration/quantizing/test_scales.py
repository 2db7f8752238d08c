import warnings
from itertools import combinations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.quantizing.scales import (
    INT8_LIMIT,
    Range,
    activation_scale,
    bias_codes,
    weight_codes,
    weight_scales,
    widened_for_bias,
)

# float32 rounds once in the scale and once in the quotient.
ROUNDING = 1 + 2.0**-21
INT16 = np.iinfo(np.int16)
INT32 = np.iinfo(np.int32)
SMALLEST_SCALE = float(np.finfo(np.float16).tiny)

magnitudes = st.floats(2.0**-20, 2.0**15, width=32)
ranges = st.tuples(magnitudes | st.just(0.0), magnitudes | st.just(0.0)).map(
    lambda r: Range.spanning(-r[0], r[1])
)
types = st.sampled_from(["uint8", "int8"])
weights = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.just(1)),
    elements=st.floats(-4, 4, width=32),
)
relaxed = settings(deadline=None)


def quantize_session(code_type):
    """Open QuantizeLinear and DequantizeLinear in ONNX Runtime, without optimization."""
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
    """Quantize values over a range; return codes, dequantized values and scale."""
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
        # The zero point is rounded, so the lower end may be off by half a step.
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
        # Zero is inside every range, even if the range given is 1 to 2.
        ((51, 510), 2, 0),
        ((-510, -51), 2, 255),
        ((0, 0), 1, 0),
    ],
)
def test_uint8_scale_by_hand(value_range, scale, zero_point):
    activation = activation_scale(Range.spanning(*value_range), symmetric=False)
    assert (activation.scale, activation.zero_point) == (pytest.approx(scale), zero_point)


@pytest.mark.parametrize(
    ("value_range", "scale"), [((0, 127), 1), ((-254, 127), 2), ((-3, 25.4), 0.2), ((0, 0), 1)]
)
def test_int8_scale_by_hand(value_range, scale):
    activation = activation_scale(Range.spanning(*value_range), symmetric=True)
    assert (activation.scale, activation.zero_point) == (pytest.approx(scale), 0)


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
        return  # torch answers with the least scale that torch knows
    observer(torch.tensor(value_range[:2]))
    scale, zero_point = observer.calculate_qparams()
    activation = activation_scale(value_range, symmetric=False)
    assert float(activation.scale) == pytest.approx(float(scale), rel=1e-6)
    # A quotient on a tie may round either way.
    assert abs(int(activation.zero_point) - int(zero_point)) <= 1


def channels_of(weight):
    return weight.reshape(len(weight), -1).astype(np.float64)


@given(weight=weights, safe=st.booleans())
@relaxed
def test_weight_error_is_at_most_half_a_step_and_codes_stay_symmetric(weight, safe):
    scales = weight_scales(weight, safe)
    codes = weight_codes(weight, scales)
    assert (scales.dtype, scales.shape) == (np.float32, (len(weight),))
    assert (codes.dtype, codes.shape) == (np.int8, weight.shape)
    assert (np.abs(codes.astype(int)) <= INT8_LIMIT).all()
    assert (scales >= SMALLEST_SCALE).all()
    back = channels_of(codes) * scales[:, None].astype(np.float64)
    assert (np.abs(back - channels_of(weight)) <= scales[:, None] / 2 * ROUNDING).all()


@given(weight=weights)
@relaxed
def test_safe_scales_are_never_smaller_and_at_most_double(weight):
    full, safe = weight_scales(weight, False), weight_scales(weight, True)
    assert (safe >= full).all()
    assert (safe <= 2 * full * (1 + 1e-4)).all()


@given(
    values=arrays(
        np.float32, 5, elements=st.floats(0.0625, 100, width=32) | st.floats(-100, -0.0625, width=32)
    )
)
@relaxed
def test_constant_channel_is_exact(values):
    weight = np.repeat(values, 6).reshape(5, 2, 3, 1)
    scales = weight_scales(weight, False)
    codes = weight_codes(weight, scales)
    assert (np.abs(codes.astype(int)) == INT8_LIMIT).all()
    np.testing.assert_allclose(codes * scales[:, None, None, None], weight, rtol=1e-6)


@pytest.mark.parametrize("safe", [True, False])
def test_single_weight_of_a_depthwise_channel_is_exact(safe):
    weight = np.array([0.3, -7.25, 1e-3], np.float32).reshape(3, 1, 1, 1)
    scales = weight_scales(weight, safe)
    back = weight_codes(weight, scales).ravel() * scales
    np.testing.assert_allclose(back[:2], weight.ravel()[:2], rtol=1e-6)
    # A weight below 127 of the smallest scale uses fewer codes.
    assert abs(back[2] - weight.ravel()[2]) <= SMALLEST_SCALE / 2


@pytest.mark.parametrize("safe", [True, False])
def test_channel_without_weights(safe):
    weight = np.zeros((2, 3, 3, 3), np.float32)
    weight[1, 0, 0, 0] = 12.7
    scales = weight_scales(weight, safe)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    codes = weight_codes(weight, scales)
    assert not codes[0].any()
    assert codes[1].max() in (INT8_LIMIT, INT8_LIMIT - 1)


def test_bias_of_a_channel_without_weights_is_kept():
    # The bias is all that is left of such a channel, so it must not be rounded to the activation's steps.
    bias, activation = np.array([0.37], np.float32), np.float32(0.5)
    scales = widened_for_bias(weight_scales(np.zeros((1, 4, 1, 1), np.float32), False), bias, activation)
    accumulator = scales * activation
    assert bias_codes(bias, accumulator) * accumulator == pytest.approx(0.37, abs=1e-4)


def test_weight_codes_round_ties_to_even():
    weight = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 300, -300], np.float32).reshape(1, 9, 1, 1)
    codes = weight_codes(weight, np.ones(1, np.float32))
    assert codes.ravel().tolist() == [0, 2, 2, 0, -2, -2, 126, 127, -127]


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_torchs(seed):
    weight = np.random.default_rng(seed).standard_normal((16, 8, 3, 3)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        symmetric, default = (
            torch.ao.quantization.PerChannelMinMaxObserver(
                ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, **limits
            )
            for limits in ({"quant_min": -127, "quant_max": 127}, {})
        )
    for observer in (symmetric, default):
        observer(torch.from_numpy(weight))
    scales = weight_scales(weight, False)
    expected, zero_points = symmetric.calculate_qparams()
    np.testing.assert_allclose(scales, expected.numpy(), rtol=1e-6)
    assert not zero_points.any()
    # By default torch spreads the largest weight over 127.5 steps of -128...127, not over 127.
    np.testing.assert_allclose(scales * 127 / 127.5, default.calculate_qparams()[0].numpy(), rtol=1e-6)
    rounded = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(weight), torch.from_numpy(scales), zero_points.int(), 0, -127, 127
    )
    codes = np.rint(rounded.numpy() / scales[:, None, None, None])
    difference = np.abs(codes - weight_codes(weight, scales))
    # torch multiplies by the reciprocal, which decides near-ties otherwise.
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def worst_pair(codes):
    """Return the smallest and largest sum of two products with uint8 codes, over all pairs of a channel."""
    sums = [0]
    for channel in codes.reshape(len(codes), -1).astype(int):
        for one, other in combinations(channel.tolist(), 2):
            sums += [a * one + b * other for a in (0, 255) for b in (0, 255)]
    return min(sums), max(sums)


def overflows(codes):
    low, high = worst_pair(codes)
    return low < INT16.min or high > INT16.max


@given(weight=weights)
@relaxed
def test_no_pair_of_safe_codes_overflows_16_bits(weight):
    assert not overflows(weight_codes(weight, weight_scales(weight, True)))


@pytest.mark.parametrize("scale", [1e-4, 1, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_no_pair_overflows_in_channels_like_the_stems(seed, scale):
    weight = (np.random.default_rng(seed).standard_normal((8, 3, 3, 3)) * scale).astype(np.float32)
    assert not overflows(weight_codes(weight, weight_scales(weight, True)))
    assert overflows(weight_codes(weight, weight_scales(weight, False))) == (scale > 1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_pair_overflows_where_both_weights_are_ties(sign):
    # n + 1/2 and 127 - n + 1/2 steps: the scale's own rounding can push both upwards, to 129.
    generator = np.random.default_rng(0)
    steps = generator.integers(1, 127, 20_000)
    scales = generator.uniform(1e-3, 1e-1, 20_000)
    weight = sign * np.stack([(steps + 0.5) * scales, (127.5 - steps) * scales], 1).astype(np.float32)
    codes = weight_codes(weight[:, :, None, None], weight_scales(weight[:, :, None, None], True))
    sums = 255 * codes.astype(int).sum((1, 2, 3))
    assert INT16.min <= sums.min()
    assert sums.max() <= INT16.max


def test_narrow_scales_cost_at_most_a_bit_and_only_where_needed():
    # One large weight of each sign: 127 + small never adds up to 129.
    lonely = np.array([1, 0.005, -1, -0.003], np.float32).reshape(1, 4, 1, 1)
    assert weight_scales(lonely, True) == weight_scales(lonely, False)
    paired = np.array([1, 1, 0.1, -0.1], np.float32).reshape(1, 4, 1, 1)
    assert weight_scales(paired, True) == pytest.approx(2 / 128, rel=1e-4)


biases = arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32))


@given(
    bias=biases,
    scales=arrays(np.float32, 3, elements=st.floats(SMALLEST_SCALE, 1, width=32)),
    activation=st.floats(SMALLEST_SCALE, 100, width=32),
)
@relaxed
def test_widened_scales_keep_bias_codes_inside_int32(bias, scales, activation):
    activation = np.float32(activation)
    widened = widened_for_bias(scales, bias, activation)
    assert widened.dtype == np.float32
    assert (widened >= scales).all()
    accumulator = widened * activation
    exact = np.rint(bias.astype(np.float64) / accumulator)
    assert (np.abs(exact) <= INT32.max).all()
    codes = bias_codes(bias, accumulator)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, exact)
    fits = np.abs(bias.astype(np.float64) / (scales.astype(np.float64) * activation)) < 2**29
    np.testing.assert_array_equal(widened[fits], scales[fits])


def test_unwidened_scale_would_overflow():
    bias, activation = np.array([1000], np.float32), np.float32(1e-4)
    scales = np.array([SMALLEST_SCALE], np.float32)
    assert 1000 / (float(scales[0]) * 1e-4) > INT32.max
    assert bias_codes(bias, widened_for_bias(scales, bias, activation) * activation) == pytest.approx(
        2**30, rel=1e-5
    )


@given(bias=arrays(np.float32, 4, elements=st.floats(-10, 10, width=32)), scale=st.floats(1e-6, 1e-2))
@relaxed
def test_bias_error_is_at_most_half_a_step(bias, scale):
    scales = np.full(4, scale, np.float32)
    back = bias_codes(bias, scales) * scales.astype(np.float64)
    assert (np.abs(back - bias) <= scales / 2 * ROUNDING).all()
