"""Calibration: run the float32 graph over the calibration images and write ranges.json.

    {"format", "model" (sha256), "method", "images", "split" (sha256),
     "tensors": {name: {"min", "max", "low", "high"}}}

The file is neutral: every flavour of Q/DQ graph takes its scales from it.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from artifacts import MODEL, RANGES, RunDirectory, Step, sha256_of
from calibration.histogram import Histogram
from calibration.methods import Method, Range
from calibration.placement import observed_values
from data.dataset import Dataset, check_disjoint
from errors import UserError
from graphs.onnx_file import graph_from_file
from progress import Progress, silent
from runtimes.machine import available_threads

FORMAT = 1
# All observed tensors of a batch are in memory together.
_BATCH_BYTES = 256 * 2**20
_LARGEST_BATCH = 100


def ranges_from_graph(
    run: RunDirectory,
    dataset: Dataset,
    method: Method,
    force: bool = False,
    progress: Progress = silent,
) -> bool:
    """Write ranges.json, unless it is up to date.

    Returns:
        whether anything was done.

    Raises:
        UserError: the data set is not the one the network was exported for, or its calibration split
            shares an image with the test split.
    """
    split = hashlib.sha256(dataset.calibration.images.tobytes()).hexdigest()
    step = Step(
        stage="calibrate",
        options={"method": method.to_json(), "split": split},
        inputs=(MODEL,),
        outputs=(RANGES,),
        packages=("onnxruntime-gpu", "numpy"),
    )
    if run.is_current(step) and not force:
        return False
    path = run.verified(MODEL)
    model = graph_from_file(path)
    check_disjoint(dataset.calibration, dataset.test)
    with run.writing(step) as folder:
        histograms = observe(model, dataset.normalised(dataset.calibration.images), progress)
        document = {
            "format": FORMAT,
            "model": sha256_of(path),
            "method": method.to_json(),
            "images": len(dataset.calibration),
            "split": split,
            "tensors": {name: _summary(h, method) for name, h in histograms.items()},
        }
        (folder / RANGES).write_text(json.dumps(document, indent=1) + "\n")
    return True


def observe(model: ir.Model, images: np.ndarray, progress: Progress = silent) -> dict[str, Histogram]:
    """Histogram of every tensor that some flavour quantizes.

    Args:
        model: float32 graph.
        images: normalised, float32 [N, C, H, W].
    """
    values = observed_values(model)
    histograms = {str(value.name): Histogram() for value in values}
    inside = [value for value in values if not value.is_graph_input()]
    names = [str(value.name) for value in inside]
    session = _session_with_outputs(model, inside)
    batch = _batch_size(inside)
    input_name = str(model.graph.inputs[0].name)
    for start in progress(range(0, len(images), batch), "calibrating", -(-len(images) // batch)):
        part = images[start : start + batch]
        histograms[input_name].update(part)
        for name, tensor in zip(names, session.run(names, {input_name: part}), strict=True):
            histograms[name].update(tensor)
    return histograms


def ranges_from_file(path: Path) -> dict[str, Range]:
    """Range of each tensor, by name.

    Raises:
        UserError: not a ranges file.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        return {
            name: Range(float(entry["low"]), float(entry["high"]))
            for name, entry in document["tensors"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a ranges file ({error})", "calibrate again") from error


def _summary(histogram: Histogram, method: Method) -> dict[str, Any]:
    low, high = method.range_of(histogram)
    return {"min": histogram.minimum, "max": histogram.maximum, "low": low, "high": high}


def _session_with_outputs(model: ir.Model, values: list[ir.Value]) -> onnxruntime.InferenceSession:
    proto = ir.to_proto(model)
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(str(value.name), onnx.TensorProto.FLOAT, None) for value in values
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _dimensions(value: ir.Value) -> list[int]:
    """All but the batch."""
    assert value.shape is not None
    return [size for size in value.shape[1:] if isinstance(size, int)]


def _batch_size(values: list[ir.Value]) -> int:
    per_image = sum(4 * math.prod(_dimensions(value)) for value in values)
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // per_image))
