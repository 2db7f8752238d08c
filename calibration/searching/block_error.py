"""What quantization does to each residual block's output, and to the logits: block_error.json.

    {"machine", "images", "series": [{"flavour", "stream", "float_blocks", "logits_db", "blocks": {Add: dB}}]}

The output of a block is the sum its Add computes, before the stream's own rounding of it, which shows
at the next block. It is compared with that of the float graph the quantized one is made from, see
`graphs.signal_to_noise`; null stands for no error at all. The convolutions of a cpu graph run in the integer
kernels of ONNX Runtime, which without VNNI may saturate; its sums, since they are looked at, in float. The
other graphs are evaluated operator by operator, with their 16-bit roundings if they have any, as
`runtimes.ort_runtime.ReferenceRuntime` does. In an openvino graph a mean that the BN behind the sum takes out
again (`calibration.quantizing.correct_bias`) counts as error of the block.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from artifacts.names import BLOCK_ERROR, RANGES
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.plan import Plan
from calibration.quantizing.qdq import source_of
from calibration.quantizing.quantize import Quantize
from calibration.quantizing.scheme import Scheme
from calibration.ranges.calibration_set import held_out_images
from calibration.ranges.ranges_from_graph import GRAPHS, Calibrated, ranges_from_file
from data.dataset import Dataset
from graphs.card import OUTPUT, Batch
from graphs.evaluation import activations
from graphs.onnx_file import graph_from_file, typed_copy
from graphs.rounding import ExplicitRounding
from graphs.signal_to_noise import Noise
from graphs.skip_path import junctions
from machine.description import this_machine
from progress import Progress, silent
from vocabulary import Flavour, Precision, Stream

# 64 images give the error to a tenth of a dB; more would take minutes at depth 1001.
_IMAGES = 64
# The streams that are worth comparing. TensorRT keeps a stream exact enough in fp16, so fp32 is left out.
_STREAMS = {
    Flavour.cpu: (Stream.int8, Stream.fp32),
    Flavour.openvino: (Stream.int8,),
    Flavour.gpu: (Stream.int8, Stream.fp16),
    Flavour.rtx: (Stream.fp16,),
}


@dataclass(frozen=True)
class BlockError:
    """Signal to noise in dB of a quantized graph.

    Attributes:
        blocks: by the name of the block's Add, in order of execution.
    """

    scheme: Scheme
    blocks: dict[str, float]
    logits: float

    def to_json(self) -> dict[str, Any]:
        """A series of block_error.json."""
        return {
            "flavour": self.scheme.flavour,
            "stream": self.scheme.stream,
            "float_blocks": list(self.scheme.float_blocks),
            "logits_db": finite(self.logits),
            "blocks": {name: finite(value) for name, value in self.blocks.items()},
        }


def block_errors_from_ranges(
    run: RunDirectory, dataset: Dataset, plan: Plan, force: bool = False, progress: Progress = silent
) -> bool:
    """Write block_error.json from the reparametrized graphs and ranges.json, unless it is up to date.

    The file holds every flavour with every stream that is worth comparing, whatever the plan's stream is.

    Returns:
        whether anything was done.

    Raises:
        UserError: a graph or the ranges are missing or changed, or no training image is held out.
    """
    plans = [plan_scheme for plan_scheme in plan.schemes() if plan_scheme.precision == Precision.int8]
    schemes = [replace(scheme, stream=stream) for scheme in plans for stream in _STREAMS[scheme.flavour]]
    machine = this_machine().to_json()
    step = Step(
        stage="block-error",
        options={
            "machine": machine,
            "schemes": [scheme.to_json() for scheme in schemes],
            # With the calibration split, which the ranges tell of, this decides the held-out images.
            "dataset": dataset.sha256,
            "images": _IMAGES,
        },
        inputs=(*GRAPHS, RANGES),
        outputs=(BLOCK_ERROR,),
        packages=("onnxruntime", "numpy"),
    )
    if run.is_current(step) and not force:
        return False
    images = dataset.normalised(held_out_images(dataset)[:_IMAGES])
    models = {name: graph_from_file(run.verified(name)) for name in GRAPHS}
    ranges = {name: ranges_from_file(run.verified(RANGES), name) for name in GRAPHS}
    with run.writing(step) as folder:
        series = [
            block_error(models[name], ranges[name], scheme, images, progress)
            for scheme in schemes
            for name in (source_of(scheme),)
        ]
        document = {
            "machine": machine,
            "images": len(images),
            "series": [errors.to_json() for errors in series],
        }
        (folder / BLOCK_ERROR).write_text(json.dumps(document, indent=1) + "\n")
    return True


def block_error(
    model: ir.Model,
    calibrated: Mapping[str, Calibrated],
    scheme: Scheme,
    images: Batch,
    progress: Progress = silent,
) -> BlockError:
    """Compare every block of a float graph with the same block quantized.

    Memory does not grow with the images: batches are as small as `activations` makes them.

    Args:
        model: float32 graph with the shapes of its tensors; it is left as it is.
        images: normalised, float32 [N, C, H, W].
    """
    sums = {str(j.add.name): str(j.add.outputs[0].name) for j in junctions(model)}
    names = [*sums.values(), OUTPUT]
    quantized = quantized_twin(model, calibrated, scheme)
    what = f"blocks, {scheme.flavour}, {scheme.stream} stream"
    batches = zip(
        activations(model, _named(model, names), images, what, progress),
        activations(quantized, _named(quantized, names), images, "", optimized=scheme.flavour == Flavour.cpu),
        strict=True,
    )
    noises = {name: Noise() for name in names}
    for exact, rounded in batches:
        for name, noise in noises.items():
            noise.update(exact[name], rounded[name])
    return BlockError(
        scheme, {block: noises[name].snr_db for block, name in sums.items()}, noises[OUTPUT].snr_db
    )


def quantized_twin(model: ir.Model, calibrated: Mapping[str, Calibrated], scheme: Scheme) -> ir.Model:
    """A quantized copy of a float graph, in the form in which ONNX Runtime evaluates it on a CPU."""
    quantized = typed_copy(model)
    Quantize(calibrated, scheme)(quantized)
    quantized = typed_copy(quantized)
    if not scheme.is_for_cpus:
        ExplicitRounding()(quantized)
    return quantized


def finite(db: float) -> float | None:
    """A figure in dB for JSON, which has no infinity: None where nothing differs."""
    return db if math.isfinite(db) else None


def _named(model: ir.Model, names: list[str]) -> list[ir.Value]:
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    return [values[name] for name in names]
