"""Made-up passes over a graph of two nodes test the runner; `test_every_pass` has the real passes."""

from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx_ir.passes import InvariantError, PassError, PostconditionError, PreconditionError
from sample_networks import node_named, op_types

from errors import CheckFailed, UserError
from graphs.onnx_file import initializer, remove_unread
from graphs.passes import GraphPass, PassResult


def chain():
    """Make the graph y = Relu(x w)."""
    text = """
    <ir_version: 9, opset_import: ["": 19]>
    g (float[N,2] x) => (float[N,2] y) <float[2] w = {1, 2}> { [mul] a = Mul(x, w) [relu] y = Relu(a) }"""
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


class Doubles(GraphPass):
    """Double w; each pass below is this one with a fault."""

    name = "double"

    def requires(self, graph):
        if "w" not in graph.graph.initializers:
            raise InvariantError("there is no w")

    def rewrite(self, graph):
        w = graph.graph.initializers["w"]
        w.const_value = ir.tensor(2 * w.const_value.numpy(), name="w")
        return self.result(["w"])

    def ensures(self, graph, result):
        if graph.graph.initializers["w"].const_value.numpy()[1] != 4:
            raise InvariantError("w was not doubled")


def test_pass_rewrites_in_place_and_tells_what_it_did():
    model = chain()
    assert Doubles()(model) == PassResult("double", ("w",), {})
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), [2, 4])


def test_result_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PassResult("double").name = "halve"


def test_result_does_not_share_what_it_was_made_of():
    refused = {"relu": "no weight"}
    result = Doubles().result([], refused)
    refused.clear()
    assert result == PassResult("double", (), {"relu": "no weight"})


def test_broken_precondition_names_the_pass_and_nothing_is_rewritten():
    model = chain()
    node_named(model, "mul").replace_input_with(1, model.graph.inputs[0])
    remove_unread(model.graph, [model.graph.initializers["w"]])
    before = ir.to_proto(model)
    with pytest.raises(
        PreconditionError, match="pass 'double' cannot take this graph: there is no w"
    ) as caught:
        Doubles()(model)
    assert isinstance(caught.value.__cause__, InvariantError)
    assert ir.to_proto(model) == before


def test_graph_that_is_none_is_the_callers_fault():
    model = chain()
    node_named(model, "mul").replace_input_with(0, node_named(model, "relu").outputs[0])
    with pytest.raises(PreconditionError, match="pass 'double' cannot take this graph: Mul mul reads y"):
        Doubles()(model)


def test_broken_postcondition_names_the_pass():
    class Halves(Doubles):
        def rewrite(self, graph):
            graph.graph.initializers["w"].const_value = ir.tensor(np.float32([0.5, 1]), name="w")
            return self.result(["w"])

    with pytest.raises(
        PostconditionError, match="pass 'double' broke a promise: w was not doubled"
    ) as caught:
        Halves()(chain())
    assert isinstance(caught.value.__cause__, InvariantError)


def leaves_an_initializer(graph):
    wider = initializer(graph, "wider", np.float32([2, 4]))
    graph.node("mul").replace_input_with(1, wider)


def renames_the_output(graph):
    graph.outputs[0].name = "z"


def retypes_the_output(graph):
    graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)


def reshapes_the_output(graph):
    graph.outputs[0].shape = ir.Shape(["N", 3])


def drops_the_output(graph):
    del graph.outputs[0]


def reorders(graph):
    mul = graph.node("mul")
    graph.remove(mul)
    graph.append(mul)


def closes_a_cycle(graph):
    graph.node("mul").replace_input_with(0, graph.node("relu").outputs[0])


def gives_a_name_twice(graph):
    graph.node("mul").outputs[0].name = "x"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (leaves_an_initializer, "nothing reads the initializer w any more"),
        (
            renames_the_output,
            r"the graph should have input x FLOAT \[N,2\], output y FLOAT \[N,2\] and has .* output z FLOAT",
        ),
        (retypes_the_output, "the graph should have .* and has .* output y FLOAT16"),
        (reshapes_the_output, r"the graph should have .* and has .* output y FLOAT \[N,3\]"),
        (drops_the_output, r"the graph should have .* and has input x FLOAT \[N,2\]$"),
        (reorders, "Relu relu reads a, which is not there yet"),
        (closes_a_cycle, "Mul mul reads y, which is not there yet"),
        (gives_a_name_twice, "two values have the name x"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_every_pass_must_keep(fault, told):
    class Faulty(Doubles):
        def rewrite(self, graph):
            result = super().rewrite(graph)
            fault(graph.graph)
            return result

    with pytest.raises(PostconditionError, match=f"pass 'double' broke a promise: {told}"):
        Faulty()(chain())


def test_initializer_that_nothing_read_before_is_no_fault_of_the_pass():
    model = chain()
    initializer(model.graph, "spare", np.float32([0]))
    assert Doubles()(model).changed == ("w",)
    assert "spare" in model.graph.initializers


def test_one_name_cannot_be_changed_and_refused():
    class Undecided(Doubles):
        def rewrite(self, graph):
            super().rewrite(graph)
            return self.result(["w"], {"w": "too small"})

    with pytest.raises(PostconditionError, match="broke a promise: w was changed and refused"):
        Undecided()(chain())


def test_error_of_a_rewrite_names_the_pass_and_keeps_its_cause():
    class Stumbles(Doubles):
        def rewrite(self, graph):
            raise ValueError("2 is not 3")

    with pytest.raises(PassError, match="pass 'double' failed: 2 is not 3") as caught:
        Stumbles()(chain())
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("kind", [UserError, CheckFailed])
@pytest.mark.parametrize("place", ["requires", "rewrite"])
def test_what_the_user_can_do_something_about_is_told_as_it_is(kind, place):
    def refuse(self, graph):
        raise kind("w is too large", "train it smaller")

    faulty = type("Faulty", (Doubles,), {place: refuse})
    with pytest.raises(kind) as caught:
        faulty()(chain())
    assert (caught.value.problem, caught.value.fix) == ("w is too large", "train it smaller")


def test_a_promise_that_cannot_be_checked_any_more_is_broken():
    """A pass may break the skip path, for example, so that walking along the path raises CheckFailed."""

    class BreaksTheWay(Doubles):
        def ensures(self, graph, result):
            raise CheckFailed("skip path broken", "check the model's definition")

    with pytest.raises(PostconditionError, match="'double' broke a promise: skip path broken") as caught:
        BreaksTheWay()(chain())
    assert isinstance(caught.value.__cause__, CheckFailed)


@dataclass(frozen=True)
class Around(GraphPass):
    """Run another pass."""

    name: ClassVar[str] = "around"
    inner: GraphPass

    def requires(self, graph):
        assert op_types(graph) == ["Mul", "Relu"]

    def rewrite(self, graph):
        return self.result(self.inner(graph).changed)

    def ensures(self, graph, result):
        assert result.changed


class Empty(Doubles):
    name = "inner"

    def rewrite(self, graph):
        return self.result(["w"])


def test_pass_within_a_pass_is_the_one_named():
    assert Around(Doubles())(chain()) == PassResult("around", ("w",))
    with pytest.raises(PostconditionError, match=r"^pass 'inner' broke a promise"):
        Around(Empty())(chain())
