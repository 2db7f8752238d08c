"""The stage model.onnx -> model.reparametrized.onnx and .bn.onnx: the same network, easier to quantize.

    absorb     BN on the stream into the biases and weights around it
    centre     each channel of what BN reads around 0
    equalize   each channel of the stream to the same reach

The second one is without `absorb`, for OpenVINO: it runs BN, ReLU and Q as one kernel, while an absorbed
BN leaves biases where convolution and sum are one, and those cost it more than they save.

Each pass is exact but for rounding, and that is checked after each on calibration images: the logits'
relative error sqrt(sum (y - z)^2 / sum y^2) stays within `LIMITS`.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
import onnx_ir as ir

from artifacts.names import MODEL, MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, REPARAMETRIZATION
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.ranges.calibration_set import calibration_images, fingerprint
from calibration.rewriting.absorb_batchnorm import absorb_batchnorm
from calibration.rewriting.equalize_stream import centre_stream, equalize_stream
from data.dataset import Dataset
from errors import CheckFailed, UserError
from graphs.card import Batch
from graphs.evaluation import channel_extremes, logits_of_graph
from graphs.onnx_file import card_of_graph, graph_from_file, typed_copy, write_graph
from graphs.streams import streams_of
from progress import Progress, silent

PASSES = ("absorb", "centre", "equalize")
DEFAULT_PASSES = ("absorb", "equalize")
# By whether the network is trained. Deep random networks amplify every rounding: at depth 1001 two
# float32 evaluations of one graph already differ by 6e-3.
LIMITS = {True: 1e-5, False: 3e-2}
_CHECKED_IMAGES = 100


@dataclass(frozen=True)
class Pass:
    """What one pass did.

    Attributes:
        refused: what it left as it was, each with the reason.
        error: relative error of the logits against model.onnx after it.
    """

    name: str
    refused: dict[str, str]
    error: float


def passes_from_names(names: str) -> tuple[str, ...]:
    """Passes from "absorb,equalize" or "none", in the order they are done in.

    Raises:
        UserError: lists the names.
    """
    wanted = {name.strip() for name in names.split(",")} if names != "none" else set()
    if unknown := wanted - set(PASSES):
        raise UserError(
            f"unknown reparametrization '{', '.join(sorted(unknown))}'",
            f"use none, or some of {','.join(PASSES)}",
        )
    return tuple(name for name in PASSES if name in wanted)


def reparametrized_from_graph(
    run: RunDirectory,
    dataset: Dataset,
    passes: tuple[str, ...] = DEFAULT_PASSES,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[list[Pass], bool]:
    """Write both graphs and reparametrization.json, unless they are up to date.

    Returns:
        what each pass did to model.reparametrized.onnx, and whether anything was done now.

    Raises:
        UserError: the graph is missing or changed, or the calibration split is not fit.
        CheckFailed: a pass changed the network; names it.
    """
    step = Step(
        stage="reparametrize",
        options={"passes": list(passes), "split": fingerprint(dataset.calibration)},
        inputs=(MODEL,),
        outputs=(MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, REPARAMETRIZATION),
        packages=("onnxruntime", "numpy"),
    )
    if run.is_current(step) and not force:
        entries = json.loads((run.path / REPARAMETRIZATION).read_text())
        return [Pass(**entry) for entry in entries], False
    model = graph_from_file(run.verified(MODEL))
    card = card_of_graph(model, MODEL)
    images = calibration_images(dataset)
    with run.writing(step) as folder:
        limit = LIMITS[card.trained]
        changed, done = reparametrize(model, passes, images, limit, progress)
        kept = changed
        # Where nothing was absorbed, both are one graph.
        if _count_batchnorms(changed) != _count_batchnorms(model):
            own = passes_for(MODEL_REPARAMETRIZED_BN, passes)
            kept, _ = reparametrize(model, own, images, limit, progress)
        write_graph(changed, card, folder / MODEL_REPARAMETRIZED)
        write_graph(kept, card, folder / MODEL_REPARAMETRIZED_BN)
        text = json.dumps([asdict(entry) for entry in done], indent=1) + "\n"
        (folder / REPARAMETRIZATION).write_text(text)
    return done, True


def passes_for(file: str, passes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some passes that one of the two graphs gets."""
    return tuple(name for name in passes if file == MODEL_REPARAMETRIZED or name != "absorb")


def reparametrize(
    model: ir.Model, passes: tuple[str, ...], images: Batch, limit: float, progress: Progress = silent
) -> tuple[ir.Model, list[Pass]]:
    """The same network after some passes, with what each did.

    Args:
        model: float32 graph; it is left as it is.
        images: normalised calibration images.
        limit: of the relative error.

    Raises:
        CheckFailed: a pass changed the network.
    """
    checked = images[:_CHECKED_IMAGES]
    original = logits_of_graph(model, checked).astype(np.float64)
    model = typed_copy(model)
    done = []
    for name in passes:
        refused = _run(name, model, images, progress)
        model = typed_copy(model)
        noise = original - logits_of_graph(model, checked)
        error = float(np.sqrt(np.square(noise).sum() / np.square(original).sum()))
        if not error <= limit:
            raise CheckFailed(
                f"'{name}' changed the network: relative error {error:.1e} of the logits, over {limit:.0e}",
                "leave it out with --reparametrize, and report it",
            )
        done.append(Pass(name, refused, error))
    return model, done


def _count_batchnorms(model: ir.Model) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph)


def _run(name: str, model: ir.Model, images: Batch, progress: Progress) -> dict[str, str]:
    if name == "absorb":
        return absorb_batchnorm(model)
    values = [value for stream in streams_of(model) for value in stream.scaled]
    extremes = channel_extremes(model, values, images, progress)
    if name == "centre":
        return centre_stream(model, extremes)
    return equalize_stream(model, extremes)
