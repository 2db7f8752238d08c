import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from sample_networks import (
    TWO_BLOCKS,
    absorbable_network,
    graph_of,
    node_named,
    op_types,
    run_graph,
    sample_card,
    sample_graph,
    sample_images,
)

from calibration.absorb_batchnorm import absorb_batchnorm
from calibration.integer_relu import integer_relu
from graphs.onnx_file import initializer, write_graph

HEADER = '<ir_version: 9, opset_import: ["": 19]>'
# A block of a pre-activation network without BN: what feeds the skip path feeds a Relu, too.
SHARED = """
g (float[N,2,4,4] a, float[N,2,4,4] b) => (float[N,2,4,4] y) {
    [add] x = Add(a, b)
    [relu] r = Relu(x)
    [last] y = Add(x, r)
}"""
SHARED_INPUT = """
g (float[N,2,4,4] a, float[N,2,4,4] b) => (float[N,2,4,4] y) {
    [relu] r = Relu(a)
    [last] y = Add(a, r)
}"""
ALONE = SHARED.replace("y = Add(x, r)", "y = Add(b, r)")
SCALE, ZERO_POINT = np.float32(0.05), np.uint8(128)
PREACT = [config for config in TWO_BLOCKS if config.variant == "preact"]


def parsed(text):
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEADER + text)))


def test_relu_that_shares_its_input_is_rewritten():
    model = parsed(SHARED)
    assert integer_relu(model) == ["relu"]
    assert op_types(model) == ["Add", "Add", "Relu", "Add"]
    again = node_named(model, "add.again")
    assert [value.name for value in again.inputs] == ["b", "a"]
    assert str(again.outputs[0].shape) == "[N,2,4,4]"
    assert node_named(model, "relu").inputs[0] is again.outputs[0]


def test_relu_that_shares_what_is_no_sum_becomes_a_lookup():
    model = parsed(SHARED_INPUT)
    assert integer_relu(model) == ["relu"]
    assert op_types(model) == ["LeakyRelu", "Add"]
    lookup = node_named(model, "relu")
    assert lookup.attributes["alpha"].as_float() == 0
    assert lookup.outputs[0].name == "r"
    assert str(lookup.outputs[0].shape) == "[N,2,4,4]"


def test_relu_that_has_its_input_alone_is_left():
    model = parsed(ALONE)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert integer_relu(model) == []
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("config", PREACT, ids=lambda config: config.block)
def test_relus_on_the_stream_of_an_absorbed_network_are_rewritten(tmp_path, config):
    model = graph_of(absorbable_network(config))
    images = sample_images(2)
    assert integer_relu(model) == []
    absorb_batchnorm(model)
    (expected,) = run_graph(model, images, optimized=False)
    # Where a projection follows, or the head, a Relu alone reads the Add.
    blocks = ["stage1.0", "stage1.1", "stage2.1", "stage3.1"]
    if config.block == "bottleneck":
        blocks = blocks[1:]
    assert integer_relu(model) == [f"{block}.preact.relu1" for block in blocks]
    # The stem of a basic network is no sum.
    lookups = [node.name for node in model.graph if node.op_type == "LeakyRelu"]
    assert lookups == (["stage1.0.preact.relu1"] if config.block == "basic" else [])
    write_graph(model, sample_card(config), tmp_path / "model.onnx")
    np.testing.assert_array_equal(run_graph(tmp_path / "model.onnx", images, optimized=False)[0], expected)


@pytest.mark.parametrize(
    "config", [c for c in TWO_BLOCKS if c.variant == "original"], ids=lambda config: config.block
)
def test_original_network_has_none(config):
    assert integer_relu(sample_graph(config)) == []


def quantize(model):
    """Put a Q behind every tensor but those a Relu alone reads, and a DQ of its own before each consumer.

    Behind a Relu 0 is the lowest code, so that it can fold into the Q.
    """
    graph = model.graph
    scale = initializer(graph, "scale", SCALE)
    signed = [scale, initializer(graph, "zero_point", ZERO_POINT)]
    positive = [scale, initializer(graph, "lowest", np.uint8(0))]
    nodes = list(graph)
    for value in [*graph.inputs, *(node.outputs[0] for node in nodes)]:
        uses = list(value.uses())
        if [node.op_type for node, _ in uses] == ["Relu"]:
            continue
        behind_relu = value.producer() is not None and "Relu" in value.producer().op_type
        parameters = positive if behind_relu else signed
        codes = ir.node("QuantizeLinear", [value, *parameters])
        if producer := value.producer():
            graph.insert_after(producer, codes)
        else:
            graph.insert_before(nodes[0], codes)
        for consumer, index in uses:
            values = ir.node("DequantizeLinear", [codes.outputs[0], *parameters])
            graph.insert_before(consumer, values)
            consumer.replace_input_with(index, values.outputs[0])
        if value.is_graph_output():
            graph.outputs[0] = codes.outputs[0]
            codes.outputs[0].shape = value.shape
            codes.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    return model


def session_of(model, optimized_path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized_path)
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def codes_and_operators(model, tmp_path):
    """What ONNX Runtime computes, and with which operators."""
    path = tmp_path / "optimized.onnx"
    operands = np.random.default_rng(0).normal(0, 1.5, (2, 3, 2, 4, 4)).astype(np.float32)
    (codes,) = session_of(model, path).run(None, dict(zip("ab", operands, strict=True)))
    return codes, [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(SHARED, ["QLinearAdd"] * 3), (SHARED_INPUT, ["QLinearAdd", "QLinearLeakyRelu"])],
    ids=["sum", "input"],
)
def test_rewritten_relu_runs_in_integers(tmp_path, text, expected):
    """The twin shows why: left as it is, the same Relu is computed in float."""
    rewritten = parsed(text)
    integer_relu(rewritten)
    codes, operators = codes_and_operators(quantize(rewritten), tmp_path)
    left, operators_left = codes_and_operators(quantize(parsed(text)), tmp_path)
    assert sorted(op for op in operators if op != "QuantizeLinear") == expected
    assert not {"QLinearAdd", "QLinearLeakyRelu"} >= set(operators_left)
    assert len(np.unique(codes)) > 20
    # A Relu that reads the codes of the sum rounds twice, one of a sum of its own once.
    assert np.abs(codes.astype(int) - left).max() <= 1
