"""Artifacts that no stage made, published as if one had: with a fault seeded into them, or pretended.

Their hashes match the manifest, so that nothing but the check under test can object.
"""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import onnx
from onnx import numpy_helper

from artifacts.files import sha256_of
from artifacts.json_codec import to_text
from artifacts.names import MODEL
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from graphs.card import PREFIX
from graphs.onnx_file import card_from_file
from runtimes.tensorrt.engine_card import EngineCard, files_of_engine
from runtimes.tensorrt.plan_layers import Layer, Traffic, document_of_layers
from runtimes.tensorrt.plan_options import PlanOptions

Change = Callable[[np.ndarray], np.ndarray]


def graph_in(run: RunDirectory, name: str) -> onnx.ModelProto:
    return onnx.load(run.verified(name))


def publish(run: RunDirectory, name: str, graph: onnx.ModelProto) -> None:
    with run.writing(Step("export", {}, (), (name,))) as folder:
        onnx.save(graph, folder / name)


def set_card(graph: onnx.ModelProto, **values: object) -> None:
    for entry in graph.metadata_props:
        field = entry.key.removeprefix(PREFIX)
        if field in values:
            entry.value = json.dumps(values.pop(field))
    assert not values, f"no such fields: {values}"


def change_initializer(graph: onnx.ModelProto, name: str, change: Change) -> None:
    (tensor,) = (entry for entry in graph.graph.initializer if entry.name == name)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(array.copy()).astype(array.dtype), name))


def bypass_dequantize(graph: onnx.ModelProto, conv: str) -> None:
    """Feed a convolution the float values before their QuantizeLinear: it has to run in float."""
    producers = {output: node for node in graph.graph.node for output in node.output}
    (node,) = (node for node in graph.graph.node if node.name == conv)
    dequantize = producers[node.input[0]]
    quantize = producers[dequantize.input[0]]
    node.input[0] = quantize.input[0]


def publish_engine(run: RunDirectory, name: str, layers: tuple[Layer, ...] = (), **values: object) -> None:
    """A plan file that holds no engine, with a sidecar that says it does, and with layers of another plan."""
    precision = name.split("/")[-1].split(".")[0]
    plan = b"no plan: " + name.encode()
    files = files_of_engine(name)
    _, sidecar, listed = files
    graph = card_from_file(run.verified(MODEL)).with_precision(precision)
    with run.writing(Step("build", {}, (MODEL,), files)) as folder:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(plan)
        fields = {
            "builder": "rtx",
            "version": "1.7",
            "precision": precision,
            "targets": (),
            "convolutions": {"float32": 9},
            "proof": "plan",
            "proof_sentence": "the types of the final layers, listed by the builder",
            "batches": PlanOptions().profiles,
            "options": PlanOptions().to_json(),
            "traffic": (Traffic(1, 0, 13, 0.4, 0.3), Traffic(32, 1, 13, 10.5, 6.25)),
            "warnings": {},
            "source": run.record(MODEL).sha256,
            "plan": sha256_of(folder / name),
            "seconds": 0.1,
            "size": len(plan),
            "properties": graph.to_properties(),
        }
        card = EngineCard(**(fields | values))  # type: ignore[arg-type]
        (folder / sidecar).write_text(to_text(card))
        document = document_of_layers(layers, [(0, 1), (1, 32)])
        (folder / listed).write_text(json.dumps({"convolutions": {}} | document))


class MinuteClock:
    """In place of `artifacts.datetime`: a minute goes by between two writes.

    The manifest tells seconds, and a test writes faster than that.
    """

    def __init__(self) -> None:
        self._minutes = itertools.count()

    def now(self, zone: object) -> datetime:
        return datetime(2026, 1, 1, 0, next(self._minutes), tzinfo=UTC)
