import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from sample_networks import node_named, op_types, run_graph, sample_card, sample_graph, sample_images

from errors import CheckFailed, UserError
from graphs.onnx_file import (
    IR_VERSION,
    OPSET,
    add_to_bias,
    card_from_file,
    card_of_graph,
    constant,
    graph_from_file,
    initializer,
    remove_unread,
    replace_constant,
    replace_node,
    write_graph,
)
from models.config import resnet_config

CONFIG = resnet_config("preact", 8)
CARD = sample_card(CONFIG)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a valid file."""
    path = tmp_path_factory.mktemp("onnx") / "good.onnx"
    write_graph(sample_graph(CONFIG), CARD, path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, content):
    """A valid file, which a test may spoil."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return path


def refusal_of(path):
    """Return the problem of a refusal that is a `UserError`, names the file and has a fix."""
    with pytest.raises(UserError) as caught:
        graph_from_file(path)
    assert caught.value.exit_status == 2
    assert str(path) in caught.value.problem
    assert caught.value.fix
    return caught.value.problem


def spoil(path, change):
    proto = onnx.load(path)
    change(proto)
    path.write_bytes(proto.SerializeToString())


def test_graph_comes_back_as_it_was_written(path):
    written, read = sample_graph(CONFIG), graph_from_file(path)
    assert [node.name for node in read.graph] == [node.name for node in written.graph]
    assert op_types(read) == op_types(written)
    images = sample_images(2)
    np.testing.assert_array_equal(run_graph(read, images)[0], run_graph(written, images)[0])


def test_card_comes_back_as_it_was_written(path):
    assert card_from_file(path) == CARD


def test_file_has_the_opset_a_dynamic_batch_and_inferred_shapes(path):
    model = graph_from_file(path)
    assert (model.graph.opset_imports[""], model.ir_version) == (OPSET, IR_VERSION)
    images, logits = model.graph.inputs[0], model.graph.outputs[0]
    assert [images.name, str(images.shape), images.dtype] == ["images", "[batch,3,32,32]", ir.DataType.FLOAT]
    assert [logits.name, str(logits.shape), logits.dtype] == ["logits", "[batch,10]", ir.DataType.FLOAT]
    assert str(node_named(model, "stage3.0.add").outputs[0].shape) == "[batch,64,8,8]"


def test_writing_twice_gives_the_same_bytes(path, tmp_path):
    write_graph(sample_graph(CONFIG), CARD, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_missing_file(tmp_path):
    assert "does not exist" in refusal_of(tmp_path / "nothing.onnx")


def test_directory(tmp_path):
    assert "not a valid ONNX file" in refusal_of(tmp_path)


@pytest.mark.parametrize("text", ["", "no protobuf\n", "\x00" * 100, json.dumps({"format": 1})])
def test_other_files(path, text):
    path.write_text(text)
    assert "not a valid ONNX file" in refusal_of(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_file(path, content, share):
    path.write_bytes(content[: int(len(content) * share)])
    assert "not a valid ONNX file" in refusal_of(path)


def test_graph_with_a_dangling_input(path):
    def cut(proto):
        proto.graph.node[3].input[0] = "nowhere"

    spoil(path, cut)
    assert "not a valid ONNX file" in refusal_of(path)


def test_graph_with_an_unknown_operator(path):
    def rename(proto):
        proto.graph.node[3].op_type = "Normalise"

    spoil(path, rename)
    assert "Normalise" in refusal_of(path)


def test_onnx_of_another_tool(path):
    def forget(proto):
        del proto.metadata_props[:]

    spoil(path, forget)
    assert "not exported by skipfold" in refusal_of(path)


def test_metadata_that_is_no_json(path):
    def garble(proto):
        next(entry for entry in proto.metadata_props if entry.key == "skipfold.classes").value = "[cat"

    spoil(path, garble)
    assert "not exported by skipfold" in refusal_of(path)


@pytest.mark.parametrize(("old", "new"), [("images", "input"), ("logits", "output")])
def test_other_names_of_input_and_output(path, old, new):
    def rename(proto):
        for value in [*proto.graph.input, *proto.graph.output]:
            value.name = new if value.name == old else value.name
        for node in proto.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    spoil(path, rename)
    assert f"'{new}'" in refusal_of(path)


def test_second_output(path):
    def add(proto):
        proto.graph.output.append(
            onnx.helper.make_tensor_value_info("stem.conv", onnx.TensorProto.FLOAT, ["batch", 16, 32, 32])
        )

    spoil(path, add)
    assert "stem.conv" in refusal_of(path)


def test_card_names_the_file_it_is_missing_from():
    with pytest.raises(UserError, match=r"^elsewhere\.onnx was not exported by skipfold"):
        card_of_graph(sample_graph(CONFIG), "elsewhere.onnx")


def dangling(model):
    node_named(model, "stage2.0.add").replace_input_with(1, ir.Value(name="nowhere"))


def misshapen(model):
    model.graph.outputs[0].shape = ir.Shape(["batch", 99])


def of_mixed_types(model):
    bias = node_named(model, "classifier").inputs[2]
    bias.const_value = ir.tensor(constant(bias).astype(np.float16), name=bias.name)
    bias.type = ir.TensorType(ir.DataType.FLOAT16)


def with_a_name_twice(model):
    node_named(model, "stem.conv").outputs[0].name = "stage1.0.add"


@pytest.mark.parametrize(
    "fault", [dangling, misshapen, of_mixed_types, with_a_name_twice], ids=lambda f: f.__name__
)
def test_invalid_graph_is_not_written(tmp_path, fault):
    model = sample_graph(CONFIG)
    fault(model)
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        write_graph(model, CARD, tmp_path / "wrong.onnx")
    assert not (tmp_path / "wrong.onnx").exists()


def test_initializer_has_type_and_shape():
    model = sample_graph(CONFIG)
    array = np.arange(6, dtype=np.int8).reshape(2, 3)
    value = initializer(model.graph, "six", array)
    assert (value.dtype, str(value.shape)) == (ir.DataType.INT8, "[2,3]")
    assert model.graph.initializers["six"] is value
    np.testing.assert_array_equal(constant(value), array)


def test_constant_is_replaced_in_its_type():
    model = sample_graph(CONFIG)
    bias = node_named(model, "classifier").inputs[2]
    replace_constant(bias, np.full(10, 1 / 3))
    assert constant(bias).dtype == np.float32
    np.testing.assert_array_equal(constant(bias), np.float32(1 / 3))
    assert model.graph.initializers["classifier.bias"].const_value is bias.const_value


def test_constant_of_another_shape_is_a_bug():
    with pytest.raises(AssertionError):
        replace_constant(node_named(sample_graph(CONFIG), "classifier").inputs[2], np.zeros(11))


def test_bias_is_added_to_in_its_type():
    model = sample_graph(CONFIG)
    conv = next(node for node in model.graph if node.op_type == "Conv" and len(node.inputs) == 3)
    before = constant(conv.inputs[2])
    change = np.full(len(before), 1 / 3)
    add_to_bias(model.graph, conv, change, np.float16)
    assert constant(conv.inputs[2]).dtype == np.float32
    np.testing.assert_array_equal(constant(conv.inputs[2]), (before + change).astype(np.float32))


@pytest.mark.parametrize("real", [np.float32, np.float16])
def test_bias_that_is_not_there_is_made(real):
    model = sample_graph(CONFIG)
    conv = next(node for node in model.graph if node.op_type == "Conv" and len(node.inputs) == 2)
    change = np.linspace(-1, 1, len(constant(conv.inputs[1])))
    add_to_bias(model.graph, conv, change, real)
    assert constant(conv.inputs[2]).dtype == real
    assert model.graph.initializers[f"{conv.name}.bias"] is conv.inputs[2]
    np.testing.assert_array_equal(constant(conv.inputs[2]), change.astype(real))


def test_constant_that_two_nodes_read_is_not_replaced():
    model = sample_graph(CONFIG)
    first, second = (node_named(model, f"stage{n}.0.residual.conv2") for n in (1, 2))
    before = constant(first.inputs[1])
    second.replace_input_with(1, first.inputs[1])
    with pytest.raises(CheckFailed) as caught:
        replace_constant(first.inputs[1], 2 * before)
    assert caught.value.problem == f"{first.inputs[1].name} is shared by {first.name} and {second.name}"
    assert caught.value.fix == "export a network whose weights are not shared"
    np.testing.assert_array_equal(constant(first.inputs[1]), before)


def test_node_takes_the_place_and_the_names_of_another():
    model = sample_graph(CONFIG)
    bn = node_named(model, "head.bn")
    before = [node.name for node in model.graph]
    output, readers = bn.outputs[0], list(bn.outputs[0].uses())
    new = ir.node("Identity", [bn.inputs[0]], name="new")
    replace_node(model.graph, bn, new)
    assert [node.name for node in model.graph] == ["new" if name == "head.bn" else name for name in before]
    assert (new.outputs[0].name, new.outputs[0].shape) == (output.name, output.shape)
    assert list(new.outputs[0].uses()) == readers
    assert not [name for name in model.graph.initializers if name.startswith("head.bn")]


def test_initializers_that_a_node_reads_are_not_removed():
    model = sample_graph(CONFIG)
    before = list(model.graph.initializers)
    unread = initializer(model.graph, "unread", np.zeros(1))
    classifier = node_named(model, "classifier")
    remove_unread(model.graph, [None, unread, *classifier.inputs, *classifier.outputs])
    assert list(model.graph.initializers) == before
