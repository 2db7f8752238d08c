import onnx
import onnx_ir as ir
import pytest
from sample_networks import FOUR_BLOCKS, sample_graph

from errors import CheckFailed
from graphs.skip_path import junctions
from models.config import resnet_config

# The weights are inputs of the graph, because only the structure counts in this test.
HEADER = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[N,4,8,8] images, float[4,4,3,3] w, float[4,4,1,1] p, float[4] b) => (float[N,4,8,8] logits) {
"""
PREACT_IDENTITY = """
    [stem] x0 = Conv(images, w)
    [bn1] n = BatchNormalization(x0, b, b, b, b)
    [relu1] a = Relu(n)
    [conv1] f1 = Conv(a, w)
    [relu2] f2 = Relu(f1)
    [conv2] f3 = Conv(f2, w)
    [add] logits = Add(x0, f3)
"""
PREACT_PROJECTION = """
    [stem] x0 = Conv(images, w)
    [bn1] n = BatchNormalization(x0, b, b, b, b)
    [relu1] a = Relu(n)
    [conv1] f1 = Conv(a, w)
    [relu2] f2 = Relu(f1)
    [conv2] f3 = Conv(f2, w)
    [projection] s = Conv(a, p)
    [add] logits = Add(s, f3)
"""
ORIGINAL_IDENTITY = """
    [stem] c = Conv(images, w)
    [relu0] x0 = Relu(c)
    [conv1] f1 = Conv(x0, w)
    [relu1] f2 = Relu(f1)
    [conv2] f3 = Conv(f2, w)
    [add] y = Add(x0, f3)
    [relu2] logits = Relu(y)
"""
ORIGINAL_PROJECTION = """
    [stem] c = Conv(images, w)
    [relu0] x0 = Relu(c)
    [conv1] f1 = Conv(x0, w)
    [relu1] f2 = Relu(f1)
    [conv2] f3 = Conv(f2, w)
    [projection] s = Conv(x0, p)
    [add] y = Add(s, f3)
    [relu2] logits = Relu(y)
"""
TWO_BLOCKS = """
    [stem] x0 = Conv(images, w)
    [bn1] n = BatchNormalization(x0, b, b, b, b)
    [relu1] a = Relu(n)
    [conv1] f = Conv(a, w)
    [add1] x1 = Add(x0, f)
    [bn2] n2 = BatchNormalization(x1, b, b, b, b)
    [relu2] a2 = Relu(n2)
    [conv2] f2 = Conv(a2, w)
    [add2] logits = Add(x1, f2)
"""
GRAPHS = {
    "preact identity": (PREACT_IDENTITY, "x0", [], ["bn1", "relu1", "conv1", "relu2", "conv2"]),
    "preact projection": (
        PREACT_PROJECTION,
        "x0",
        ["bn1", "relu1", "projection"],
        ["bn1", "relu1", "conv1", "relu2", "conv2"],
    ),
    "original identity": (ORIGINAL_IDENTITY, "x0", [], ["conv1", "relu1", "conv2"]),
    "original projection": (ORIGINAL_PROJECTION, "x0", ["projection"], ["conv1", "relu1", "conv2"]),
}


def graph_of(body):
    return ir.from_proto(onnx.parser.parse_model(HEADER + body + "}"))


def names(nodes):
    return [node.name for node in nodes]


@pytest.mark.parametrize("swapped", [False, True], ids=["skip first", "skip second"])
@pytest.mark.parametrize("kind", GRAPHS)
def test_skip_path_is_found_on_either_operand(kind, swapped):
    body, stream, skip, residual = GRAPHS[kind]
    if swapped:
        for operand in ("x0", "s"):
            body = body.replace(f"Add({operand}, f3)", f"Add(f3, {operand})")
    (junction,) = junctions(graph_of(body))
    assert junction.add.name == "add"
    assert junction.skip_operand == int(swapped)
    assert (names(junction.skip), names(junction.residual)) == (skip, residual)
    assert junction.stream.name == stream
    assert junction.skip_value.name == ("s" if skip else stream)


def test_stream_of_a_later_block_is_the_add_before():
    first, second = junctions(graph_of(TWO_BLOCKS))
    assert (first.stream.name, second.stream.name) == ("x0", "x1")
    assert second.skip == ()
    assert names(second.residual) == ["bn2", "relu2", "conv2"]


def test_stream_is_raw_where_a_relu_and_an_add_share_it():
    # This is a pre-activation network whose BN layers were absorbed: a Relu reads the Add, but belongs to F.
    lines = [line for line in TWO_BLOCKS.splitlines() if "BatchNormalization" not in line]
    body = "\n".join(lines).replace("Relu(n)", "Relu(x0)").replace("Relu(n2)", "Relu(x1)")
    first, second = junctions(graph_of(body))
    assert (first.stream.name, second.stream.name) == ("x0", "x1")
    assert (names(first.residual), names(second.residual)) == (["relu1", "conv1"], ["relu2", "conv2"])
    assert first.skip == second.skip == ()


def test_graph_without_adds_has_no_junctions():
    assert junctions(graph_of("logits = Relu(images)")) == []


@pytest.mark.parametrize(("variant", "depth"), FOUR_BLOCKS)
def test_exported_network_has_a_junction_a_block_in_order(variant, depth):
    blocks = junctions(sample_graph(resnet_config(variant, depth)))
    assert names(block.add for block in blocks) == ["stage1.0.add", "stage2.0.add", "stage3.0.add"]
    projected = [block.skip[-1].name for block in blocks if block.skip]
    assert all("projection" in name for name in projected)
    assert len(projected) == (2 if depth == 8 else 3)


def refusal_of(body):
    with pytest.raises(CheckFailed) as caught:
        junctions(graph_of(body))
    return caught.value.problem


@pytest.mark.parametrize(
    ("body", "old", "new", "told"),
    [
        # Both operands have as many convolutions, so that neither is the skip path.
        (PREACT_IDENTITY, "Add(x0, f3)", "Add(f3, f3)", "Add add has 2 convolutions on both operands"),
        (PREACT_IDENTITY, "Add(x0, f3)", "Add(x0, x0)", "Add add has 0 convolutions on both operands"),
        (ORIGINAL_PROJECTION, "Conv(f2, w)", "Relu(f2)", "Add add has 1 convolutions on both operands"),
        # The skip path comes from another stream than F.
        (TWO_BLOCKS, "Add(x1, f2)", "Add(x0, f2)", "Add add2 adds branches that start at x0 and x1"),
        (TWO_BLOCKS, "Add(x1, f2)", "Add(f2, x0)", "Add add2 adds branches that start at x1 and x0"),
        # The skip path comes from outside the network.
        (PREACT_IDENTITY, "Add(x0, f3)", "Add(b, f3)", "Add add is fed through b, which belongs to no"),
        (PREACT_IDENTITY, "Add(x0, f3)", "Add(images, f3)", "Add add is fed through images"),
    ],
)  # fmt: skip
def test_twin_of_another_structure_is_refused(body, old, new, told):
    junctions(graph_of(body))
    assert told in refusal_of(body.replace(old, new))


@pytest.mark.parametrize("operator", ["Sigmoid", "Identity", "Tanh", "Neg"])
@pytest.mark.parametrize("kind", GRAPHS)
def test_foreign_operator_on_the_branch_is_refused_and_named(kind, operator):
    body = GRAPHS[kind][0].replace("Conv(f2, w)", "Conv(g, w)")
    body = body.replace("[conv2]", f"[foreign] g = {operator}(f2)\n[conv2]")
    assert f"Add add is fed through {operator} foreign" in refusal_of(body)


@pytest.mark.parametrize("operator", ["Sigmoid(x0)", "Identity(x0)", "Mul(x0, b)"])
@pytest.mark.parametrize("kind", ["preact identity", "original identity"])
def test_foreign_operator_on_the_identity_is_refused_and_named(kind, operator):
    body = GRAPHS[kind][0].replace("Add(x0, f3)", "Add(g, f3)")
    body = body.replace("[add]", f"[foreign] g = {operator}\n[add]")
    assert f"Add add is fed through {operator.split('(')[0]} foreign" in refusal_of(body)


def test_roles_do_not_depend_on_names():
    body = PREACT_IDENTITY.replace("[stem]", "[add]").replace("[add] logits", "[stem] logits")
    (junction,) = junctions(graph_of(body))
    assert (junction.add.op_type, junction.add.name) == ("Add", "stem")
