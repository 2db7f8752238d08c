import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from sample_networks import node_named, op_types

from calibration.rewriting.integer_relu import IntegerRelu
from graphs.passes import PassResult

# This is a block of a pre-activation network without BN, in Q/DQ form: what feeds the skip path feeds a
# Relu, too.
SHARED = """
<ir_version: 9, opset_import: ["": 19]>
g (float[N,2,4,4] a, float[N,2,4,4] b) => (uint8[N,2,4,4] y)
<float s = {0.05}, uint8 z = {100}, float branch_s = {0.05}, uint8 branch_z = {100}> {
    qa = QuantizeLinear(a, s, z)
    qb = QuantizeLinear(b, s, z)
    fa = DequantizeLinear(qa, s, z)
    fb = DequantizeLinear(qb, s, z)
    x = Add(fa, fb)
    qx = QuantizeLinear(x, s, z)
    skip = DequantizeLinear(qx, s, z)
    [dequantize] relu_in = DequantizeLinear(qx, s, z)
    [relu] r = Relu(relu_in)
    [quantize] qr = QuantizeLinear(r, branch_s, branch_z)
    branch = DequantizeLinear(qr, branch_s, branch_z)
    [last] sum = Add(skip, branch)
    y = QuantizeLinear(sum, s, z)
}"""
OTHER_SCALE = SHARED.replace("branch_s = {0.05}", "branch_s = {0.04}")
OTHER_ZERO_POINT = SHARED.replace("branch_z = {100}", "branch_z = {0}")
# An Add reads what the Relu writes, beside the QuantizeLinear.
READ_IN_FLOAT = SHARED.replace("sum = Add(skip, branch)", "sum = Add(r, branch)")
OTHER_TYPE = SHARED.replace("uint8 branch_z = {100}", "int8 branch_z = {100}")
DEQUANTIZED_FOR_TWO = SHARED.replace("sum = Add(skip, branch)", "sum = Add(relu_in, branch)")
OTHER_OPERATOR = SHARED.replace("r = Relu(relu_in)", "r = Sigmoid(relu_in)")
OPERANDS = np.random.default_rng(0).normal(0, 1.5, (2, 3, 2, 4, 4)).astype(np.float32)


def parsed(text):
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


def run(model, optimized_path=None):
    """Compute the output's codes as ONNX defines the operators, or as ONNX Runtime optimizes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized_path is None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.optimized_model_filepath = str(optimized_path)
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(zip("ab", OPERANDS, strict=True)))[0]


def test_relu_between_quantizers_of_one_scale_cuts_the_codes():
    model = parsed(SHARED)
    expected = run(model)
    assert IntegerRelu()(model).changed == ("relu",)
    clip = node_named(model, "relu")
    assert [value.name for value in clip.inputs] == ["qx", "z"]
    assert clip.outputs[0].name == "qr"
    assert clip.outputs[0].dtype == ir.DataType.UINT8
    assert str(clip.outputs[0].shape) == "[N,2,4,4]"
    assert "Relu" not in op_types(model)
    assert len(model.graph) == len(parsed(SHARED).graph) - 2
    codes = run(model)
    np.testing.assert_array_equal(codes, expected)
    assert len(np.unique(codes)) > 40


@pytest.mark.parametrize(
    "text", [OTHER_SCALE, OTHER_ZERO_POINT, OTHER_TYPE], ids=["scale", "zero point", "type"]
)
def test_relu_between_quantizers_of_another_scale_becomes_a_lookup(text):
    model = parsed(text)
    expected = run(model)
    assert IntegerRelu()(model).changed == ("relu",)
    lookup = node_named(model, "relu")
    assert (lookup.op_type, lookup.attributes["alpha"].as_float()) == ("LeakyRelu", 0)
    assert lookup.outputs[0].name == "r"
    assert "Relu" not in op_types(model)
    codes = run(model)
    np.testing.assert_array_equal(codes, expected)
    assert len(np.unique(codes)) > 40


@pytest.mark.parametrize(
    "text",
    [DEQUANTIZED_FOR_TWO, READ_IN_FLOAT, OTHER_OPERATOR],
    ids=["dequantized for two", "read in float", "no Relu"],
)
def test_anything_else_is_left(text):
    model = parsed(text)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert IntegerRelu()(model).changed == ()
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("zero_point", [0, 255])
def test_codes_at_an_end_are_cut_as_well(zero_point):
    """A sum that is nowhere negative has zero point 0, and one that is nowhere positive 255."""
    model = parsed(SHARED.replace("{100}", f"{{{zero_point}}}"))
    expected = run(model)
    assert IntegerRelu()(model).changed == ("relu",)
    np.testing.assert_array_equal(run(model), expected)


def test_relu_of_floats_is_left():
    text = SHARED.replace("relu_in = DequantizeLinear(qx, s, z)", "relu_in = Identity(x)")
    assert IntegerRelu()(parsed(text)) == PassResult("integer_relu")


@pytest.mark.parametrize(
    ("text", "operator"), [(SHARED, "Clip"), (OTHER_SCALE, "QLinearLeakyRelu")], ids=["cut", "look-up"]
)
def test_rewritten_relu_runs_in_integers(tmp_path, text, operator):
    """A twin shows why: ONNX Runtime computes the same Relu in float if the Relu is not rewritten."""
    rewritten = parsed(text)
    IntegerRelu()(rewritten)
    codes = run(rewritten, tmp_path / "rewritten.onnx")
    left = run(parsed(text), tmp_path / "left.onnx")
    assert sorted(operators(tmp_path / "rewritten.onnx")) == sorted([operator, "QLinearAdd", "QLinearAdd"])
    assert "DequantizeLinear" in operators(tmp_path / "left.onnx")
    np.testing.assert_array_equal(codes, left)


def operators(path):
    """List what ONNX Runtime runs, without the QuantizeLinear of the inputs."""
    op_types = sorted(node.op_type for node in onnx.load(path).graph.node)
    return [op_type for op_type in op_types if op_type != "QuantizeLinear"]
