"""Faults to seed in an exported graph, and the refusal that the audit must answer with."""

import numpy as np
import onnx_ir as ir
import pytest
from sample_networks import node_named

from errors import CheckFailed
from export.audit import audit
from graphs.onnx_file import initializer


def refusal_of(model, config):
    """Return the problem that the audit names when it refuses a graph."""
    with pytest.raises(CheckFailed) as caught:
        audit(model, config)
    assert caught.value.exit_status == 1
    assert caught.value.problem.startswith("skip path broken: ")
    return caught.value.problem


def batchnorm_parameters(graph, channels):
    """Register the four parameters of a BatchNormalization."""
    return [initializer(graph, f"intruder.{n}", np.full(channels, n + 0.5, np.float32)) for n in range(4)]


def inserted(model, value_name, op_type, into=None, channels=16):
    """Put a node `intruder` behind a value, in front of all consumers or of the consumer named `into`."""
    value = node_named(model, value_name).outputs[0]
    extra = {
        "BatchNormalization": lambda: batchnorm_parameters(model.graph, channels),
        "Mul": lambda: [initializer(model.graph, "factor", np.float32([0.5]))],
    }.get(op_type, list)()
    node = ir.node(op_type, [value, *extra], name="intruder")
    node.outputs[0].name = "intruder"
    for consumer, index in list(value.uses()):
        if consumer is not node and into in (None, consumer.name):
            consumer.replace_input_with(index, node.outputs[0])
    model.graph.insert_after(value.producer(), node)
    return model


def bypassed(model, name):
    """Remove a node; its consumers then read the first input of the node."""
    node = node_named(model, name)
    ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
    model.graph.remove(node, safe=True)
    return model
