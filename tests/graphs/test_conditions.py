import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx_ir.passes import InvariantError
from sample_networks import node_named, sample_graph

from graphs.conditions import (
    interface_of,
    require_float32,
    require_ordered,
    require_types,
    require_unique_names,
    unread_initializers,
)
from graphs.narrow import Narrow
from models.config import resnet_config

CHAIN = """
<ir_version: 9, opset_import: ["": 19]>
g (float[N,2] x) => (float[N,2] y) <float[2] w = {1, 2}> {
    [first] a = Mul(x, w)
    [second] y = Relu(a)
}"""


def chain(text=CHAIN):
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


@pytest.mark.parametrize("require", [require_ordered, require_unique_names, require_float32, require_types])
def test_exported_graph_meets_every_condition(require):
    require(sample_graph(resnet_config("preact", 8)))
    require(chain())


def test_node_before_what_it_reads_is_named():
    model = chain()
    first, second = model.graph
    model.graph.remove(first)
    model.graph.insert_after(second, first)
    with pytest.raises(InvariantError, match="Relu second reads a, which is not there yet"):
        require_ordered(model)


def test_cycle_is_named():
    model = chain()
    node_named(model, "first").replace_input_with(0, node_named(model, "second").outputs[0])
    with pytest.raises(InvariantError, match="Mul first reads y, which is not there yet"):
        require_ordered(model)


def test_input_that_nothing_declares_is_named():
    model = chain()
    node_named(model, "first").replace_input_with(1, ir.Value(name="elsewhere"))
    with pytest.raises(InvariantError, match="Mul first reads elsewhere"):
        require_ordered(model)


def test_output_that_nothing_computes_is_named():
    model = chain()
    model.graph.outputs[0] = ir.Value(name="z")
    with pytest.raises(InvariantError, match="nothing in the graph computes the output z"):
        require_ordered(model)


@pytest.mark.parametrize("name", ["x", "w", "y"], ids=["an input", "an initializer", "an output"])
def test_name_that_two_values_have_is_told(name):
    model = chain()
    node_named(model, "first").outputs[0].name = name
    with pytest.raises(InvariantError, match=f"two values have the name {name}"):
        require_unique_names(model)


def test_codes_are_no_float32_graph():
    text = CHAIN.replace("a = Mul(x, w)", "c = QuantizeLinear(x, s, z)").replace(
        "Relu(a)", "DequantizeLinear(c, s, z)"
    )
    text = text.replace("<float[2] w = {1, 2}>", "<float s = {0.5}, uint8 z = {0}>")
    with pytest.raises(InvariantError, match="QuantizeLinear first is there, so the graph is quantized"):
        require_float32(chain(text))


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_narrowed_graph_is_no_float32_graph(precision, dtype):
    model = sample_graph(resnet_config("preact", 8))
    Narrow(precision)(model)
    with pytest.raises(InvariantError, match=f"is {dtype}, not float32"):
        require_float32(model)


def test_integers_may_stand_in_a_float32_graph():
    require_float32(
        chain(
            CHAIN.replace("Relu(a)", "Reshape(a, shape)").replace(
                "{1, 2}>", "{1, 2}, int64[2] shape = {-1, 2}>"
            )
        )
    )


def test_tensor_without_a_type_is_named():
    model = chain()
    node_named(model, "first").outputs[0].type = None
    with pytest.raises(InvariantError, match="the type of a is not known"):
        require_types(model)


def test_interface_is_names_types_and_shapes():
    assert interface_of(chain()) == ("input x FLOAT [N,2]", "output y FLOAT [N,2]")
    others = [CHAIN.replace("float[N,2] y", "float[N,3] y"), CHAIN.replace("[N,2] x", "[M,2] x")]
    assert all(
        interface_of(ir.from_proto(onnx.parser.parse_model(o))) != interface_of(chain()) for o in others
    )


def test_initializer_is_unread_once_its_reader_is_gone():
    model = chain()
    assert unread_initializers(model) == set()
    node_named(model, "first").replace_input_with(1, model.graph.inputs[0])
    assert unread_initializers(model) == {"w"}
    model.graph.outputs.append(model.graph.initializers["w"])
    assert unread_initializers(model) == set()
