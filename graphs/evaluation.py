"""Run a graph in memory over images and yield the tensors inside the graph."""

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

# A batch is chosen so large that the tensors asked for take at most this much memory together.
_BATCH_BYTES = 256 * 2**20
_LARGEST_BATCH = 100


class Extremes(NamedTuple):
    """The least and the greatest value of each channel of a tensor: two arrays [C]."""

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
    """Yield the tensors of `values` by name, one batch after another.

    Args:
        model: a graph whose tensors have known shapes. The graph may be quantized as long as all of
            `values` are float32.
        values: the tensors to yield; the input of the graph may be among them.
        images: normalised images, float32 [N, C, H, W].
        description: what the progress display calls this run.
        progress: wraps the loop over the batches, so that a display can follow.
        optimized: True runs the graph as ONNX Runtime would, with fused INT8 kernels. False computes each
            operator by itself, as ONNX defines it.
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
    """Return the logits float32 [N, classes] of a graph in memory; the arguments are as in `activations`.

    `verification.compare.logits_of_split` does the same with an open runtime and a split of a data set.
    """
    batches = activations(model, [model.graph.outputs[0]], images, description, progress, optimized)
    return np.concatenate([tensors[OUTPUT] for tensors in batches])


def channel_extremes(
    model: ir.Model, values: list[ir.Value], images: Batch, progress: Progress = silent
) -> dict[str, Extremes]:
    """Return the extremes of every channel of the tensors, by name; the arguments are as in `activations`."""
    extremes: dict[str, Extremes] = {}
    for tensors in activations(model, values, images, "channel ranges", progress):
        for name in (str(value.name) for value in values):
            least, greatest = tensors[name].min((0, 2, 3)), tensors[name].max((0, 2, 3))
            before = extremes.get(name, Extremes(least, greatest))
            extremes[name] = Extremes(np.minimum(before.least, least), np.maximum(before.greatest, greatest))
    return extremes


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of an ONNX Runtime session with `threads` threads, which logs errors alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Sessions run in turns here, and worker threads that spin after a call would slow down the next session.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


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
    options = session_options(available_threads())
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _dimensions(value: ir.Value) -> list[int]:
    """Return the dimensions that are known, without the batch."""
    assert value.shape is not None
    return [size for size in value.shape[1:] if isinstance(size, int)]


def _batch_size(values: list[ir.Value]) -> int:
    per_image = sum(4 * math.prod(_dimensions(value)) for value in values)
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(1, per_image)))
