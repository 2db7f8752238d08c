"""Calibration: run the float32 graphs over the calibration images and write ranges.json.

    {"format", "method", "images", "split" (sha256),
     "graphs": {file: {"sha256",
       "tensors": {name: {"min", "max",               what was seen
                          "low", "high", "amax",      what is kept, see `scales.Range`
                          "mean", "std", "zeros",     of all values; the share that is exactly 0
                          "magnitudes": {share: quantile of |x|},
                          "channel_means": [...]}}}}}

The file is neutral: every flavour of Q/DQ graph takes its scales from it. Mean, deviation and quantiles
are those of the histogram, true to a bin.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from artifacts.names import MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, RANGES
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.quantizing.placement import observed_values
from calibration.quantizing.scales import Range
from calibration.ranges.calibration_set import calibration_images, fingerprint
from calibration.ranges.methods import Method
from calibration.ranges.observer import Observer
from data.dataset import Dataset
from errors import UserError
from graphs.card import Batch
from graphs.evaluation import activations
from graphs.onnx_file import graph_from_file
from progress import Progress, silent

FORMAT = 4
GRAPHS = (MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN)
_SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999)

# By the tensor's name; see above.
Entries = dict[str, dict[str, Any]]


class Calibrated(NamedTuple):
    """What quantization needs to know of a tensor: its range, and the mean of each channel [C]."""

    range: Range
    channel_means: NDArray[np.float64]


def ranges_from_graph(
    run: RunDirectory,
    dataset: Dataset,
    method: Method,
    force: bool = False,
    progress: Progress = silent,
) -> bool:
    """Write ranges.json from the reparametrized graphs, unless it is up to date.

    Returns:
        whether anything was done.

    Raises:
        UserError: a graph is missing or changed, or the calibration split is not fit to calibrate on,
            see `check_calibration_set`.
    """
    split = fingerprint(dataset.calibration)
    step = Step(
        stage="observe",
        options={"method": method.to_json(), "split": split},
        inputs=GRAPHS,
        outputs=(RANGES,),
        packages=("onnxruntime", "numpy"),
    )
    if run.is_current(step) and not force:
        return False
    images = calibration_images(dataset)
    head = {"format": FORMAT, "method": method.to_json(), "images": len(images), "split": split}
    with run.writing(step) as folder:
        digests = {file: run.record(file).sha256 for file in GRAPHS}
        # By content: where no BN was absorbed, both files hold one graph, and it is run once.
        tensors: dict[str, Entries] = {}
        for file, sha256 in digests.items():
            if sha256 not in tensors:
                seen = observe(graph_from_file(run.verified(file)), images, progress)
                tensors[sha256] = {name: _entry(observer, method) for name, observer in seen.items()}
        text = _text(head, digests, tensors)
        (folder / RANGES).write_text(text)
    return True


def observe(model: ir.Model, images: Batch, progress: Progress = silent) -> dict[str, Observer]:
    """What every tensor that some flavour quantizes was seen to hold, by name.

    Args:
        model: float32 graph.
        images: normalised, float32 [N, C, H, W].
    """
    values = observed_values(model)
    observers = {str(value.name): Observer() for value in values}
    for tensors in activations(model, values, images, "calibrating", progress):
        for name, observer in observers.items():
            observer.update(tensors[name])
    return observers


def ranges_from_file(path: Path, graph: str) -> dict[str, Calibrated]:
    """What quantization needs of each tensor of a graph, by name.

    Args:
        graph: one of `GRAPHS`.

    Raises:
        UserError: not a ranges file, or one with a range that is none.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        tensors = document["graphs"][graph]["tensors"]
        return {name: _calibrated(name, entry) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a ranges file ({error})", "calibrate again") from error


def calibrated(observers: dict[str, Observer], method: Method) -> dict[str, Calibrated]:
    """The same without a file."""
    return {
        name: Calibrated(method.range_of(seen.histogram), seen.channel_means().astype(np.float64))
        for name, seen in observers.items()
    }


def _calibrated(name: str, entry: dict[str, Any]) -> Calibrated:
    found = Range(*(float(entry[field]) for field in Range._fields))
    means = np.array(entry["channel_means"], np.float64)
    finite = np.isfinite([*found, *means]).all() and len(means)
    if not (finite and found.low <= found.high and found.amax >= 0):
        raise ValueError(f"{name}: {found}")
    return Calibrated(found, means)


def _entry(seen: Observer, method: Method) -> dict[str, Any]:
    histogram = seen.histogram
    magnitudes = histogram.magnitudes()
    mean, std = histogram.moments()
    return {
        "min": histogram.minimum,
        "max": histogram.maximum,
        **method.range_of(histogram)._asdict(),
        "mean": mean,
        "std": std,
        "zeros": histogram.zeros / int(histogram.counts.sum()),
        "magnitudes": {str(share): magnitudes.quantile(share) for share in _SHARES},
        "channel_means": [float(f"{value:.6g}") for value in seen.channel_means()],
    }


def _text(head: dict[str, Any], digests: dict[str, str], tensors: dict[str, Entries]) -> str:
    """JSON with a line for each tensor, from the sha256 of each file and the entries by sha256."""
    parts = []
    for file, sha256 in digests.items():
        lines = [f"   {json.dumps(name)}: {json.dumps(entry)}" for name, entry in tensors[sha256].items()]
        opening = f'  {json.dumps(file)}: {{"sha256": "{sha256}", "tensors": {{'
        parts.append(opening + "\n" + ",\n".join(lines) + "\n  }}")
    return json.dumps(head, indent=1)[:-2] + ',\n "graphs": {\n' + ",\n".join(parts) + "\n }\n}\n"
