import onnx
import onnx_ir as ir
import pytest
from sample_networks import node_named, sample_graph

from graphs.epilogue import (
    convolutions_that_write,
    end_of_epilogue,
    is_read_by_convolutions_alone,
)
from models.config import resnet_config

# In each, `v` is the value that is looked at.
WRITTEN = {
    "conv": "v = Conv(x, w)",
    "conv, relu": "a = Conv(x, w)  v = Relu(a)",
    "conv, add, relu": "a = Conv(x, w)  b = Add(x, a)  v = Relu(b)",
    "conv, bn, relu": "a = Conv(x, w)  b = BatchNormalization(a, s, s, s, s)  v = Relu(b)",
}
NOT_WRITTEN = {
    "the input": "v = Identity(x)  y = Conv(v, w)",
    "another operator": "a = Conv(x, w)  v = Sigmoid(a)",
    "the stream goes on": "a = Conv(x, w)  v = Relu(a)  z = Add(a, x)",
    "the sum goes on": "a = Conv(x, w)  b = Add(x, a)  v = Relu(b)  z = Sigmoid(b)",
    "no convolution at all": "v = Relu(x)",
}


def graph_of(body):
    text = f"""
        <ir_version: 9, opset_import: ["" : 19]>
        g (float[1, 4, 8, 8] x, float[4, 4, 1, 1] w, float[4] s) => (float[1, 4, 8, 8] out)
        {{ {body}  out = Neg(v) }}
    """
    model = ir.from_proto(onnx.parser.parse_model(text))
    return {value.name: value for node in model.graph for value in node.outputs}


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN)
def test_convolution_writes_what_follows_it_alone(body):
    values = graph_of(body)
    (conv,) = convolutions_that_write(values["v"])
    assert conv.op_type == "Conv"
    assert end_of_epilogue(conv) is values["v"]


@pytest.mark.parametrize("body", NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_other_kernels_write_the_rest(body):
    assert convolutions_that_write(graph_of(body)["v"]) == []


def test_two_convolutions_may_add_what_the_other_wrote():
    values = graph_of("a = Conv(x, w)  b = Conv(x, w)  c = Add(a, b)  v = Relu(c)")
    assert [conv.outputs[0].name for conv in convolutions_that_write(values["v"])] == ["a", "b"]


def test_epilogue_ends_where_a_value_is_read_twice():
    values = graph_of("a = Conv(x, w)  b = Add(x, a)  v = Relu(b)  z = Sigmoid(b)")
    assert end_of_epilogue(values["a"].producer()) is values["b"]


@pytest.mark.parametrize(
    ("variant", "tensor", "alone"),
    [
        ("preact", "stage2.0.preact.relu1", True),  # by conv1 and the projection
        ("preact", "stage1.0.residual.conv1", False),  # by a Relu
        ("original", "stem.relu", False),  # by conv1 and the Add
        ("original", "stage1.0.relu", True),  # by conv1 and the projection
        ("original", "stage3.0.relu", False),  # by the pooling
    ],
)
def test_tensors_that_convolutions_alone_read(variant, tensor, alone):
    model = sample_graph(resnet_config(variant, 8))
    assert is_read_by_convolutions_alone(node_named(model, tensor).outputs[0]) == alone
