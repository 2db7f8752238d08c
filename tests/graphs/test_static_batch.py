"""One batch size in every shape, and the same logits."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import PreconditionError
from quantized_samples import CPU, NETWORKS, OPENVINO, float_graph, named, quantized
from sample_networks import run_graph, sample_card, sample_images

from graphs.onnx_file import typed_copy, write_graph
from graphs.static_batch import StaticBatch


def _graph(scheme) -> ir.Model:
    return float_graph(NETWORKS[0]) if scheme is None else quantized(NETWORKS[0], scheme)


@pytest.mark.parametrize("scheme", [None, CPU, OPENVINO], ids=lambda scheme: scheme and named(scheme))
def test_every_shape_is_fixed_and_the_logits_are_the_same(scheme, tmp_path: Path) -> None:
    graph, images = _graph(scheme), sample_images(4)
    (logits,) = run_graph(graph, images)
    StaticBatch(4)(graph)
    write_graph(
        graph, sample_card(NETWORKS[0]).adapted(takes_pixels=False, batch=4), tmp_path / "static.onnx"
    )
    proto = onnx.load(tmp_path / "static.onnx").graph
    stated = [*proto.input, *proto.output, *proto.value_info]
    assert len(stated) > len(proto.node)
    assert not [value.name for value in stated for size in value.type.tensor_type.shape.dim if size.dim_param]
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in (*proto.input, *proto.output)] == [
        4,
        4,
    ]
    np.testing.assert_array_equal(run_graph(tmp_path / "static.onnx", images)[0], logits)


def test_other_batches_do_not_fit_any_more() -> None:
    graph = float_graph(NETWORKS[0])
    StaticBatch(4)(graph)
    with pytest.raises(Exception, match="index: 0 Got: 3 Expected: 4"):
        run_graph(graph, sample_images(3))


def test_shapes_that_are_not_stated_are_inferred(tmp_path: Path) -> None:
    graph = float_graph(NETWORKS[0])
    for node in graph.graph:
        for value in node.outputs:
            value.shape = value.shape if value.is_graph_output() else None
    result = StaticBatch(4)(graph)
    assert result.changed == ("images", "logits")
    assert (
        str(next(node for node in typed_copy(graph).graph if node.name == "pool").outputs[0].shape)
        == "[4,64,1,1]"
    )


def test_second_symbolic_size_is_refused() -> None:
    graph = float_graph(NETWORKS[0])
    graph.graph.inputs[0].shape = ir.Shape(["batch", 3, "height", 32])
    with pytest.raises(PreconditionError, match="has the symbolic size height, too"):
        StaticBatch(4)(graph)
