"""Calibrate: run the float32 graphs over the calibration images and write ranges.json.

    {"format", "method", "images", "split" (sha256),
     "graphs": {file: {"sha256",
       "tensors": {name: {"min", "max",               the extreme values
                          "low", "high", "amax",      the range that is kept, see `scales.Range`
                          "mean", "std",              of all values
                          "zeros",                    the share of the values that are exactly 0
                          "magnitudes": {share: quantile of |x|},
                          "channel_means": [...]}}}}}

The graphs for all runtimes take their scales from this one file. Mean, deviation and quantiles come from
the histogram and are therefore exact to the width of a bin.
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

# The "tensors" of one graph, by the name of the tensor.
Entries = dict[str, dict[str, Any]]


class Calibrated(NamedTuple):
    """What quantization needs to know about a tensor.

    Attributes:
        range: the range that is not clipped.
        channel_means: the mean of each channel, [C].
    """

    range: Range
    channel_means: NDArray[np.float64]


def ranges_from_graph(
    run: RunDirectory,
    dataset: Dataset,
    method: Method,
    force: bool = False,
    progress: Progress = silent,
) -> bool:
    """Write ranges.json from the reparametrized graphs, unless the file is up to date.

    Args:
        run: the run directory, which must hold `GRAPHS`.
        dataset: the data set with the calibration split.
        method: how ranges are chosen.
        force: True writes the file even if it is up to date.
        progress: wraps the loop over the batches, so that a display can follow.

    Returns:
        whether anything was done.

    Raises:
        UserError: a graph is missing or changed, or the calibration split is not fit to calibrate on; see
            `check_calibration_set`.
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
        # Both files hold the same graph if no BN was absorbed; that graph is then run only once.
        tensors: dict[str, Entries] = {}
        for file, sha256 in digests.items():
            if sha256 not in tensors:
                observers = observe(graph_from_file(run.verified(file)), images, progress)
                tensors[sha256] = {name: _entry(observer, method) for name, observer in observers.items()}
        text = _text(head, digests, tensors)
        (folder / RANGES).write_text(text)
    return True


def observe(model: ir.Model, images: Batch, progress: Progress = silent) -> dict[str, Observer]:
    """Run a graph over images and return an observer of each tensor that some flavour quantizes, by name.

    Args:
        model: a float32 graph.
        images: normalised images, float32 [N, C, H, W].
        progress: wraps the loop over the batches, so that a display can follow.
    """
    values = observed_values(model)
    observers = {str(value.name): Observer() for value in values}
    for tensors in activations(model, values, images, "calibrating", progress):
        for name, observer in observers.items():
            observer.update(tensors[name])
    return observers


def ranges_from_file(path: Path, graph: str) -> dict[str, Calibrated]:
    """Read the range and the channel means of each tensor of a graph, by name.

    Args:
        path: a file that `ranges_from_graph` wrote.
        graph: one of `GRAPHS`.

    Raises:
        UserError: the file is not a ranges file, or one of its ranges is not finite or is upside down.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, not {FORMAT}")
        tensors = document["graphs"][graph]["tensors"]
        return {name: _calibrated(name, entry) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a ranges file ({error})", "calibrate again") from error


def calibrated(observers: dict[str, Observer], method: Method) -> dict[str, Calibrated]:
    """Return the range and the channel means of each tensor, as `ranges_from_file` reads them from a file."""
    return {
        name: Calibrated(method.range_of(observer.histogram), observer.channel_means().astype(np.float64))
        for name, observer in observers.items()
    }


def _calibrated(name: str, entry: dict[str, Any]) -> Calibrated:
    kept = Range(*(float(entry[field]) for field in Range._fields))
    means = np.array(entry["channel_means"], np.float64)
    finite = np.isfinite([*kept, *means]).all() and len(means)
    if not (finite and kept.low <= kept.high and kept.amax >= 0):
        raise ValueError(f"{name} has no valid range: {kept}")
    return Calibrated(kept, means)


def _entry(observer: Observer, method: Method) -> dict[str, Any]:
    histogram = observer.histogram
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
        "channel_means": [float(f"{value:.6g}") for value in observer.channel_means()],
    }


def _text(head: dict[str, Any], digests: dict[str, str], tensors: dict[str, Entries]) -> str:
    """Return the JSON of ranges.json, with a line for each tensor.

    Args:
        head: the entries in front of "graphs".
        digests: the sha256 of each graph, by file name.
        tensors: the entries of each graph, by the sha256 of the graph.
    """
    parts = []
    for file, sha256 in digests.items():
        lines = [f"   {json.dumps(name)}: {json.dumps(entry)}" for name, entry in tensors[sha256].items()]
        opening = f'  {json.dumps(file)}: {{"sha256": "{sha256}", "tensors": {{'
        parts.append(opening + "\n" + ",\n".join(lines) + "\n  }}")
    return json.dumps(head, indent=1)[:-2] + ',\n "graphs": {\n' + ",\n".join(parts) + "\n }\n}\n"
