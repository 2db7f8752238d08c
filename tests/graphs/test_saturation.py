"""The static check against an exact simulation of 16-bit sums, and on files of every form."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from saturating_samples import (
    exact_sums,
    hot_convolution,
    of_convolutions,
    of_integer_convolutions,
    run_convolutions,
)

from calibration.quantizing.scales import weight_codes, weight_scales
from graphs.onnx_file import any_graph_from_file
from graphs.saturation import (
    FREE,
    SATURATES,
    UNPROVED,
    extreme_pairs,
    not_proved_free,
    saturation_findings,
)
from machine.cpu import adds_products_in_16_bits

HEADER = '<ir_version: 9, opset_import: ["": 19, "com.microsoft": 1, "own": 1]>'
CORNERS = np.array(list(itertools.product((0, 255), repeat=4)))


def parsed(tmp_path: Path, text: str) -> ir.Model:
    """As read from a file of somebody else's."""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    return any_graph_from_file(path)


def verdicts(weights: list[np.ndarray]) -> list[str]:
    return [finding.verdict for finding in saturation_findings(ir.from_proto(of_convolutions(weights)))]


def overflows(weights: np.ndarray, codes: np.ndarray = CORNERS) -> np.ndarray:
    """Whether a kernel that takes four products in some order, two a 16-bit sum, gets any sum wrong.

    Args:
        weights: [convolutions, 4].
        codes: [activations, 4].
    """
    products = weights[:, None].astype(np.int64) * codes
    wrong = np.zeros(len(weights), bool)
    for order in itertools.permutations(range(4)):
        pairs = products[..., order].reshape(*products.shape[:2], 2, 2).sum(-1)
        wrong |= (np.clip(pairs, -32768, 32767).sum(-1) != products.sum(-1)).any(1)
    return wrong


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([40, 64, 65, 80, 128]).flatmap(
    lambda limit: arrays(np.int8, (100, 4), elements=st.integers(-limit, min(limit, 127)), fill=st.nothing())
))  # fmt: skip
def test_ten_thousand_convolutions_are_judged_as_the_simulation_shows(weights: np.ndarray) -> None:
    shaped = [w.reshape((1, 4, 1, 1) if n % 2 else (1, 1, 2, 2)) for n, w in enumerate(weights)]
    expected = [SATURATES if wrong else FREE for wrong in overflows(weights)]
    assert verdicts(shaped) == expected


def test_both_verdicts_are_common_among_random_convolutions() -> None:
    """Neither "free" nor "can saturate" is given to everything."""
    weights = np.random.default_rng(0).normal(0, 60, (1000, 1, 4, 1, 1)).clip(-127, 127).astype(np.int8)
    counts = {verdict: verdicts(list(weights)).count(verdict) for verdict in (FREE, SATURATES)}
    assert counts[FREE] + counts[SATURATES] == 1000
    assert min(counts.values()) > 200


@settings(max_examples=200, deadline=None)
@given(
    weight=arrays(np.int8, (3, 2, 3, 3), elements=st.integers(-70, 70)),
    order=st.permutations(range(18)),
    activation=arrays(np.uint8, 18),
)
def test_no_order_of_a_larger_convolution_that_is_free_overflows(weight, order, activation) -> None:
    products = weight.reshape(3, 18).astype(np.int64)[:, order] * activation[order]
    pairs = products.reshape(3, 9, 2).sum(-1)
    if verdicts([weight]) == [FREE]:
        assert (np.clip(pairs, -32768, 32767) == pairs).all()


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (4, 2, 2, 2), elements=st.floats(-2, 2, width=32)))
def test_saturation_safe_scales_are_proved_free(weight: np.ndarray) -> None:
    codes = weight_codes(weight, weight_scales(weight, saturation_safe=True))
    assert verdicts([codes]) == [FREE]


@pytest.mark.parametrize("weight", [-128, 127])
def test_one_product_a_channel_cannot_overflow(weight: int) -> None:
    assert verdicts([np.full((4, 1, 1, 1), weight, np.int8)]) == [FREE]


def test_finding_names_the_worst_channel_and_its_sum() -> None:
    weight = np.array([[64, 64, 0], [-100, 5, -30], [127, -127, 1]], np.int8).reshape(3, 3, 1, 1)
    (finding,) = saturation_findings(ir.from_proto(of_convolutions([weight])))
    assert (finding.node, finding.verdict, finding.channel, finding.pair_sum) == ("y0", SATURATES, 1, -33150)


def test_limits_are_those_of_int16() -> None:
    """128 * 255 either way is inside; 129 * 255 is not."""
    for sign in (1, -1):
        assert verdicts([np.array([64, 64], np.int8).reshape(1, 2, 1, 1) * sign]) == [FREE]
        assert verdicts([np.array([64, 65], np.int8).reshape(1, 2, 1, 1) * sign]) == [SATURATES]


@settings(max_examples=300)
@given(
    weights=arrays(np.int64, (1, 4), elements=st.integers(-128, 127)),
    largest=arrays(np.int64, (1, 4), elements=st.integers(0, 255)),
)
def test_extreme_pairs_are_those_of_all_codes(weights: np.ndarray, largest: np.ndarray) -> None:
    ends = [(0, int(n)) for n in largest[0]]
    pairs = [
        u * int(weights[0, i]) + v * int(weights[0, j])
        for i, j in itertools.combinations(range(4), 2)
        for u in ends[i]
        for v in ends[j]
    ]
    smallest, highest = extreme_pairs(weights, weights, largest)
    assert (smallest[0], highest[0]) == (min(pairs), max(pairs))


QDQ = (
    "one = Constant<value = float {1.0}>() "
    "zp = Constant<value = uint8 {0}>() wz = Constant<value = int8 {0}>()"
)
DQ_X = "q = QuantizeLinear(x, one, zp) d = DequantizeLinear(q, one, zp)"
FORMS = {
    "Conv": "(float[1,2,1,1] x) => (float[1,1,1,1] y) <int8[1,2,1,1] w = {W}> {"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) y = Conv(d, v) }}",
    "Gemm": "(float[1,2] x) => (float[1,2] y) <int8[2,2] w = {W, 1, 1}> {"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) y = Gemm<transB = 1>(d, v) }}",
    "MatMul": "(float[1,2] x) => (float[1,1] y) <int8[2,1] w = {W}> {"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) y = MatMul(d, v) }}",
    "ConvInteger": "(uint8[1,2,1,1] x) => (int32[1,1,1,1] y) <int8[1,2,1,1] w = {W}> {"
    " y = ConvInteger(x, w) }",
    "MatMulInteger": "(uint8[1,2] x) => (int32[1,1] y) <int8[2,1] w = {W}> { y = MatMulInteger(x, w) }",
    "QLinearConv": "(uint8[1,2,1,1] x) => (uint8[1,1,1,1] y) <int8[1,2,1,1] w = {W}> {"
    f"{QDQ} y = QLinearConv(x, one, zp, w, one, wz, one, zp) }}",
    "QLinearMatMul": "(uint8[1,2] x) => (uint8[1,1] y) <int8[2,1] w = {W}> {"
    f"{QDQ} y = QLinearMatMul(x, one, zp, w, one, wz, one, zp) }}",
    "QGemm": "(uint8[1,2] x) => (float[1,1] y) <int8[2,1] w = {W}> {"
    f"{QDQ} y = com.microsoft.QGemm(x, one, zp, w, one, wz) }}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("codes", "verdict"), [("100, 100", SATURATES), ("-64, -64", FREE)])
def test_every_form_is_judged(tmp_path: Path, form: str, codes: str, verdict: str) -> None:
    (finding,) = saturation_findings(parsed(tmp_path, "g " + FORMS[form].replace("W", codes)))
    assert (finding.op_type, finding.verdict, finding.channel) == (form, verdict, 0)
    assert abs(finding.pair_sum or 0) == (51000 if verdict == SATURATES else 32640)


def test_products_of_different_columns_are_not_added(tmp_path: Path) -> None:
    text = (
        FORMS["MatMulInteger"]
        .replace("[2,1] w = {W}", "[2,2] w = {100, 1, 1, 100}")
        .replace("[1,1] y", "[1,2] y")
    )
    (finding,) = saturation_findings(parsed(tmp_path, "g " + text))
    assert (finding.verdict, finding.pair_sum) == (FREE, 101 * 255)


CONV = "(float[1,2,1,1] x) => (float[1,1,1,1] y)"
UNKNOWN = {
    "weight is in uint8": f"g {CONV} <uint8[1,2,1,1] w = {{1, 1}}> {{"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, zp) y = Conv(d, v) }}",
    "weight has a zero point": f"g {CONV} <int8[1,2,1,1] w = {{1, 1}}, int8 z = {{3}}> {{"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, z) y = Conv(d, v) }}",
    "weight is not constant": "g (float[1,2,1,1] x, int8[1,2,1,1] w) => (float[1,1,1,1] y) {"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) y = Conv(d, v) }}",
    "weight is computed from codes": f"g {CONV} <int8[1,2,1,1] w = {{1, 1}}> {{"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) u = Mul(v, one) y = Conv(d, u) }}",
    "first operand is the weight": "g (float[2,1] x) => (float[1,1] y) <int8[1,2] w = {1, 1}> {"
    f"{QDQ} v = DequantizeLinear(w, one, wz) y = MatMul(v, x) }}",
    "activation is not quantized": f"g {CONV} <int8[1,2,1,1] w = {{100, 100}}> {{"
    f"{QDQ} v = DequantizeLinear(w, one, wz) y = Conv(x, v) }}",
    "no rule for ConvTranspose": f"g {CONV} <int8[2,1,1,1] w = {{1, 1}}> {{"
    f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) y = ConvTranspose(d, v) }}",
    "no rule for own Anything": f"g {CONV} <int8[1,2,1,1] w = {{1, 1}}> {{"
    f"{QDQ} {DQ_X} y = own.Anything(d, w) }}",
    "branches of control flow": "g (float[1,2] x, bool c) => (float[1,2] y) <float[2,2] w = {1, 0, 0, 1}> {"
    "y = If(c) <then_branch = t () => (float[1,2] a) { a = MatMul(x, w) },"
    " else_branch = e () => (float[1,2] b) { b = Identity(x) }> }",
}  # fmt: skip


@pytest.mark.parametrize("reason", UNKNOWN)
def test_what_is_not_known_is_not_called_free(tmp_path: Path, reason: str) -> None:
    findings = saturation_findings(parsed(tmp_path, UNKNOWN[reason]))
    assert [finding.verdict for finding in findings] == [UNPROVED]
    assert reason in findings[0].reason
    assert not_proved_free(findings) == [findings[0].node]


def test_initializer_that_a_caller_may_override_is_not_constant(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HEADER + "g " + FORMS["ConvInteger"].replace("W", "1, 1"))
    weight = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.INT8, [1, 2, 1, 1])
    model.graph.input.append(weight)
    onnx.save(model, tmp_path / "overridable.onnx")
    (finding,) = saturation_findings(any_graph_from_file(tmp_path / "overridable.onnx"))
    assert (finding.verdict, finding.reason) == (UNPROVED, "its weight is not constant")


def test_products_inside_a_local_function_are_looked_at(tmp_path: Path) -> None:
    call = f"g {CONV} <int8[1,2,1,1] w = {{100, 100}}> {{"
    call += f"{QDQ} {DQ_X} v = DequantizeLinear(w, one, wz) y = own.Wrapped(d, v) }}"
    function = '<domain: "own", opset_import: ["": 19]> Wrapped (a, b) => (c) { c = Conv(a, b) }'
    (finding,) = saturation_findings(parsed(tmp_path, call + function))
    assert finding.verdict == SATURATES


@pytest.mark.parametrize(("value", "verdict"), [("63.2", FREE), ("64.0", SATURATES)])
def test_weight_quantized_at_load_may_be_rounded_either_way(tmp_path: Path, value: str, verdict: str) -> None:
    text = f"g {CONV} <float[1,2,1,1] w = {{{value}, {value}}}> {{"
    text += f"{QDQ} {DQ_X} c = QuantizeLinear(w, one, wz) v = DequantizeLinear(c, one, wz) y = Conv(d, v) }}"
    (finding,) = saturation_findings(parsed(tmp_path, text))
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        f"g {CONV} <float[1,2,1,1] w = {{100, 100}}> {{ y = Conv(x, w) }}",
        f"g {CONV} <float[1,2,1,1] w = {{100, 100}}> {{ {QDQ} {DQ_X} y = Conv(d, w) }}",
        f"g (float[1,2] x) => (float[1,2] y) {{ {QDQ} {DQ_X} y = Add(d, d) }}",
    ],
)
def test_float_sums_are_none_of_its_business(tmp_path: Path, text: str) -> None:
    assert saturation_findings(parsed(tmp_path, text)) == []


def scaled_down(slopes: str) -> str:
    """Two groups of two channels, each scaled before it is quantized again; all weights are 100."""
    return (
        f"g (float[1,4,1,1] x) => (float[1,2,1,1] y) <float[4,1,1,1] s = {{{slopes}}},"
        f" int8[2,2,1,1] w = {{100, 100, 100, 100}}> {{ {QDQ} {DQ_X} b = Conv<group = 4>(d, s) r = Relu(b)"
        " q2 = QuantizeLinear(r, one, zp) d2 = DequantizeLinear(q2, one, zp)"
        " v = DequantizeLinear(w, one, wz) y = Conv<group = 2>(d2, v) }"
    )


def test_smaller_codes_are_used_where_they_are_proved(tmp_path: Path) -> None:
    (finding,) = saturation_findings(parsed(tmp_path, scaled_down("0.25, 0.25, 1, 1")))
    assert (finding.verdict, finding.channel, finding.pair_sum) == (SATURATES, 1, 51000)
    (finding,) = saturation_findings(parsed(tmp_path, scaled_down("0.25, 0.25, 0.5, 0.5")))
    # ceil(127.5) and one code for rounding.
    assert (finding.verdict, finding.channel, finding.pair_sum) == (FREE, 1, 2 * 129 * 100)


def padded(form: str, weight: np.ndarray, top: int, zero_point: int, padding: int) -> ir.Model:
    """A padded 3x3 convolution whose codes are `zero_point`.. and, where it pads, `padding`."""
    codes = ", ".join(map(str, weight.ravel()))
    conv = {
        "Conv": "e = DequantizeLinear(q2, one, p) v = DequantizeLinear(w, one, wz)"
        " y = Conv<pads = [1,1,1,1]>(e, v)",
        "QLinearConv": "y = QLinearConv<pads = [1,1,1,1]>(q2, one, p, w, one, wz, one, zp)",
    }[form]
    kind = {"Conv": "float", "QLinearConv": "uint8"}[form]
    text = (
        f"g (float[1,1,4,4] x) => ({kind}[1,1,4,4] y) <int8[1,1,3,3] w = {{{codes}}}, float low = {{0}},"
        f" float top = {{{top}}}, uint8 z = {{{zero_point}}}, uint8 p = {{{padding}}}> {{ {QDQ} {DQ_X}"
        f" r = Clip(d, low, top) q2 = QuantizeLinear(r, one, z) {conv} }}"
    )
    return ir.from_proto(onnx.parser.parse_model(HEADER + text))


@settings(max_examples=300, deadline=None)
@given(
    form=st.sampled_from(["Conv", "QLinearConv"]),
    weight=arrays(np.int8, (1, 1, 3, 3), elements=st.integers(-128, 127), fill=st.nothing()),
    top=st.integers(0, 255),
    zero_point=st.integers(0, 255),
    padding=st.integers(0, 255),
)
def test_no_pair_of_a_padded_convolution_that_is_free_overflows(form, weight, top, zero_point, padding):
    (finding,) = saturation_findings(padded(form, weight, top, zero_point, padding))
    products = [
        {int(w) * code for code in (zero_point, min(top + zero_point, 255), padding)} for w in weight.ravel()
    ]
    pairs = [a + b for one, other in itertools.combinations(products, 2) for a in one for b in other]
    if finding.verdict == FREE:
        assert min(pairs) >= -32768 and max(pairs) <= 32767


@pytest.mark.parametrize("form", ["Conv", "QLinearConv"])
def test_padding_can_saturate_by_itself(form):
    """The codes of the values are 10 at most, and free."""
    weight = np.full((1, 1, 3, 3), 127, np.int8)
    found = [saturation_findings(padded(form, weight, 10, 0, padding))[0].verdict for padding in (0, 200)]
    assert found == [FREE, SATURATES]


def in_onnxruntime(weight: np.ndarray, activation: np.ndarray) -> np.ndarray:
    return run_convolutions(of_integer_convolutions([weight]), [activation])[0]


@pytest.mark.parametrize("seed", range(5))
def test_onnxruntime_sums_exactly_what_is_called_free(seed: int) -> None:
    weight, activation = hot_convolution(64, seed)
    assert verdicts([weight]) == [FREE]
    assert (in_onnxruntime(weight, activation) == exact_sums(weight, activation)).all()


@pytest.mark.skipif(not adds_products_in_16_bits(), reason="needs an x86 CPU without VNNI")
def test_onnxruntime_saturates_where_it_is_said_to() -> None:
    weight, activation = hot_convolution(127, 0)
    assert verdicts([weight]) == [SATURATES]
    assert (in_onnxruntime(weight, activation) != exact_sums(weight, activation)).any()


@pytest.mark.skipif(adds_products_in_16_bits(), reason="needs a CPU with VNNI")
def test_onnxruntime_is_exact_with_vnni_whatever_the_weights() -> None:
    weight, activation = hot_convolution(127, 0)
    assert (in_onnxruntime(weight, activation) == exact_sums(weight, activation)).all()
