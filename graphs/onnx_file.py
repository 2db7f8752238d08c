"""Read, change and write ONNX graphs; every ONNX file in a run directory is written by `write_graph`."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir

from errors import CheckFailed, UserError
from graphs.card import INPUT, GraphCard, card_from_properties

# 19 is the first opset whose QuantizeLinear takes float16 scales.
OPSET = 19
IR_VERSION = 9


def graph_from_file(path: Path) -> ir.Model:
    """Read and check an ONNX file that skipfold wrote.

    Raises:
        UserError: the file does not exist, is not ONNX, holds an invalid graph, or was not exported by
            skipfold.
    """
    model = _read(path, ir.from_proto, "export the network first", "export the network again")
    output = card_of_graph(model, path).output
    inputs = [value.name for value in model.graph.inputs]
    outputs = [value.name for value in model.graph.outputs]
    if (inputs, outputs) != ([INPUT], [output]):
        raise UserError(
            f"{path} takes {inputs} and gives {outputs}, not ['{INPUT}'] and ['{output}']",
            "use a file that skipfold exported",
        )
    return model


def any_graph_from_file(path: Path) -> ir.Model:
    """Read and check an ONNX file of any origin, inline its local functions and infer its types.

    Raises:
        UserError: the file does not exist, is not ONNX, or holds an invalid graph.
    """

    def typed(proto: onnx.ModelProto) -> ir.Model:
        inlined = onnx.inliner.inline_local_functions(proto)
        return ir.from_proto(onnx.shape_inference.infer_shapes(inlined, check_type=True, strict_mode=True))

    return _read(path, typed, "name an ONNX file", "name a valid ONNX file")


def _read(
    path: Path, convert: Callable[[onnx.ModelProto], ir.Model], if_missing: str, if_invalid: str
) -> ir.Model:
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
        return convert(proto)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", if_missing) from error
    except Exception as error:  # protobuf, onnx.checker and onnx_ir raise unrelated types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} is not a valid ONNX file ({reason})", if_invalid) from error


def card_of_graph(model: ir.Model, path: Path | str) -> GraphCard:
    """Return the card in the metadata of a graph.

    Raises:
        UserError: the graph has no card; the error names `path`.
    """
    try:
        return card_from_properties(model.metadata_props)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} was not exported by skipfold ({error})", "use a file that skipfold exported"
        ) from error


def card_from_file(path: Path) -> GraphCard:
    """Read an ONNX file and return the card; the errors are those of `graph_from_file`."""
    return card_of_graph(graph_from_file(path), path)


def initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Register a constant under a name and return its value, which has a type and a shape."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(value)
    return value


def constant(value: ir.Value | None) -> np.ndarray:
    """Return the array of an initializer."""
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


def replace_constant(value: ir.Value | None, array: np.ndarray) -> None:
    """Give an initializer other numbers of the same shape, rounded to the initializer's type.

    Raises:
        CheckFailed: more than one node reads the initializer, so that another node would change, too.
    """
    before = constant(value)
    assert value is not None and before.shape == array.shape
    if len(value.uses()) > 1:
        readers = " and ".join(str(node.name) for node, _ in value.uses())
        raise CheckFailed(
            f"{value.name} is shared by {readers}", "export a network whose weights are not shared"
        )
    value.const_value = ir.tensor(array.astype(before.dtype), name=value.name)


def add_to_bias(
    graph: ir.Graph, conv: ir.Node, change: np.ndarray, real: np.dtype | type[np.floating] = np.float32
) -> None:
    """Add `change` [out] to the output of a convolution, by way of the bias.

    Args:
        graph: the graph of the convolution.
        conv: a Conv node; a node without a bias gets one.
        change: what is added to each output channel.
        real: the type of a bias that is made here.

    Raises:
        CheckFailed: another node reads the bias, too.
    """
    if len(conv.inputs) > 2:
        replace_constant(conv.inputs[2], constant(conv.inputs[2]) + change)
    else:
        conv.resize_inputs(3)
        conv.replace_input_with(2, initializer(graph, f"{conv.name}.bias", change.astype(real)))


def replace_node(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Replace the node `old` by `new`; the outputs keep their names, types, shapes and readers."""
    inputs = tuple(old.inputs)
    ir.convenience.replace_nodes_and_values(graph, old, [old], [new], old.outputs, new.outputs)
    remove_unread(graph, inputs)


def remove_unread(graph: ir.Graph, values: Iterable[ir.Value | None]) -> None:
    """Remove the initializers among `values` that no node reads."""
    for value in values:
        if value is not None and value.is_initializer() and not value.uses():
            del graph.initializers[str(value.name)]


def typed_copy(model: ir.Model) -> ir.Model:
    """Return a copy with the shapes and types of all tensors, which are inferred anew."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))


def write_graph(model: ir.Model, card: GraphCard, path: Path) -> None:
    """Infer the shapes of a graph, check the graph, and write it together with its card.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: the graph is wrong, which
            is a bug of the pass that made the graph.
    """
    model.metadata_props.update(card.to_properties())
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
