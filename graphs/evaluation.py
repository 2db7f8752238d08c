"""Run a float graph over images and hand out the tensors inside it."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from graphs.card import OUTPUT, Batch
from machine.cpu import available_threads
from progress import Progress, silent

# All tensors asked for are in memory together, for one batch.
_BATCH_BYTES = 256 * 2**20
_LARGEST_BATCH = 100


class Extremes(NamedTuple):
    """Least and greatest value of each channel of a tensor, each [C]."""

    least: NDArray[np.float32]
    greatest: NDArray[np.float32]


def activations(
    model: ir.Model,
    values: list[ir.Value],
    images: Batch,
    description: str,
    progress: Progress = silent,
    optimized: bool = True,
) -> Iterator[dict[str, Batch]]:
    """Yield, batch by batch, the tensors of `values` by name; the graph's input may be among them.

    Args:
        model: float32 graph with the shapes of its tensors; a quantized one, if `values` are float32.
        images: normalised, float32 [N, C, H, W].
        optimized: as ONNX Runtime would run the graph, INT8 kernels and all; if not, each operator as
            ONNX defines it.
    """
    inside = [value for value in values if not value.is_graph_input()]
    names = [str(value.name) for value in inside]
    session = _session_with_outputs(model, inside, optimized)
    size = _batch_size(inside)
    input_name = str(model.graph.inputs[0].name)
    for start in progress(range(0, len(images), size), description, -(-len(images) // size)):
        part = images[start : start + size]
        tensors = session.run(names, {input_name: part})
        yield {input_name: part, **dict(zip(names, tensors, strict=True))}


def logits_of_graph(
    model: ir.Model,
    images: Batch,
    description: str = "",
    progress: Progress = silent,
    optimized: bool = True,
) -> Batch:
    """Logits float32 [N, classes] of a graph in memory; see `activations`."""
    batches = activations(model, [model.graph.outputs[0]], images, description, progress, optimized)
    return np.concatenate([tensors[OUTPUT] for tensors in batches])


def channel_extremes(
    model: ir.Model, values: list[ir.Value], images: Batch, progress: Progress = silent
) -> dict[str, Extremes]:
    """Least and greatest value of each channel of each tensor, by name; see `activations`."""
    found: dict[str, Extremes] = {}
    for tensors in activations(model, values, images, "channel ranges", progress):
        for value in values:
            tensor = tensors[str(value.name)]
            seen = Extremes(tensor.min((0, 2, 3)), tensor.max((0, 2, 3)))
            before = found.get(str(value.name), seen)
            found[str(value.name)] = Extremes(
                np.minimum(before.least, seen.least), np.maximum(before.greatest, seen.greatest)
            )
    return found


def _session_with_outputs(
    model: ir.Model, values: list[ir.Value], optimized: bool
) -> onnxruntime.InferenceSession:
    proto = ir.to_proto(model)
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(str(value.name), onnx.TensorProto.FLOAT, None)
        for value in values
        if value.name not in present
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    options.log_severity_level = 3
    # Two graphs run in alternation here, and workers that go on spinning slow down the other's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _dimensions(value: ir.Value) -> list[int]:
    """All but the batch."""
    assert value.shape is not None
    return [size for size in value.shape[1:] if isinstance(size, int)]


def _batch_size(values: list[ir.Value]) -> int:
    per_image = sum(4 * math.prod(_dimensions(value)) for value in values)
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(1, per_image)))
