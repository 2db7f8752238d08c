"""Which weights and activations `graphs.saturation` recognises as 8-bit codes, in files of every form."""

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

from graphs.onnx_file import any_graph_from_file
from graphs.saturation import FREE, SATURATES, UNPROVED, not_proved_free, saturation_findings

HEADER = '<ir_version: 9, opset_import: ["": 19, "com.microsoft": 1, "own": 1]>'


def parsed(tmp_path: Path, text: str) -> ir.Model:
    """Write a graph to a file and read it as `check` reads a file of any origin."""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    return any_graph_from_file(path)


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
def test_unknown_weight_or_activation_is_not_called_free(tmp_path: Path, reason: str) -> None:
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
    assert (finding.verdict, finding.reason) == (UNPROVED, "the weight is not constant")


def test_products_inside_a_local_function_are_judged(tmp_path: Path) -> None:
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
def test_sums_of_floats_have_no_finding(tmp_path: Path, text: str) -> None:
    assert saturation_findings(parsed(tmp_path, text)) == []


def scaled_down(slopes: str) -> str:
    """Return a convolution of two groups of two channels, which are scaled and quantized again before it.

    All weights are 100, so a pair of products overflows if the two largest codes exceed 327 together.
    """
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
    # The largest code is ceil(127.5 + 0.75) = 129, because ONNX Runtime may round the slopes to steps of
    # 0.5 / 255, and one code is added for rounding.
    assert (finding.verdict, finding.channel, finding.pair_sum) == (FREE, 1, 2 * 130 * 100)


def padded(form: str, weight: np.ndarray, top: int, zero_point: int, padding: int) -> ir.Model:
    """Return a 3x3 convolution of codes from `zero_point` on that pads with the code `padding`."""
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
    """The codes of the values are at most 10, so only the padding code 200 makes a sum overflow."""
    weight = np.full((1, 1, 3, 3), 127, np.int8)
    verdicts = [saturation_findings(padded(form, weight, 10, 0, padding))[0].verdict for padding in (0, 200)]
    assert verdicts == [FREE, SATURATES]
