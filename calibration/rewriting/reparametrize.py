"""The stage model.onnx -> model.reparametrized.onnx and .bn.onnx: the same network, easier to quantize.

    absorb     moves each BN that reads a stream into the biases and weights around it
    centre     moves each channel of what BN reads to lie around 0
    equalize   scales each channel of the stream to the same reach

model.reparametrized.bn.onnx is made without `absorb`, for OpenVINO, which runs BN, ReLU and QuantizeLinear as
one kernel. An absorbed BN would leave a bias where OpenVINO runs convolution and sum as one, and that costs
more time than the BN does.

The passes change the logits by rounding alone. The stage checks this after each pass on calibration images:
the relative error sqrt(sum (y - z)^2 / sum y^2) of the logits must stay within `LIMITS`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from artifacts.names import MODEL, MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, REPARAMETRIZATION
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from calibration.ranges.calibration_set import calibration_images, fingerprint
from calibration.rewriting.absorb_batchnorm import AbsorbBatchnorm
from calibration.rewriting.equalize_stream import CentreStream, EqualizeStream
from data.dataset import Dataset
from errors import CheckFailed, UserError
from graphs.card import Batch
from graphs.evaluation import channel_extremes, logits_of_graph
from graphs.onnx_file import card_of_graph, graph_from_file, typed_copy, write_graph
from graphs.passes import GraphPass, PassResult
from graphs.streams import streams_of
from progress import Progress, silent

PASSES = (AbsorbBatchnorm.name, CentreStream.name, EqualizeStream.name)
DEFAULT_PASSES = (AbsorbBatchnorm.name, EqualizeStream.name)
# The limit of the relative error of a trained network, and of a random one. The second is wide, because
# deep random networks amplify every rounding: at depth 1001 two float32 evaluations of one graph already
# differ by 6e-3.
LIMITS = {True: 1e-5, False: 3e-2}
_CHECKED_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class Reparametrization(PassResult):
    """An entry of reparametrization.json tells what one pass did to model.reparametrized.onnx.

    Attributes:
        error: relative error of the logits after the pass, against those of model.onnx.
    """

    error: float


def passes_from_names(names: str) -> tuple[str, ...]:
    """Return the passes of "absorb,equalize" or "none", in the order in which they run.

    Raises:
        UserError: a name is not one of `PASSES`; lists them.
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
) -> tuple[list[Reparametrization], bool]:
    """Write both graphs and reparametrization.json, unless they are up to date.

    Returns:
        what each pass did to model.reparametrized.onnx, and whether anything was done now.

    Raises:
        UserError: the graph is missing or changed, or the calibration split is not fit.
        CheckFailed: a pass changed the network; names the pass.
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
        return [_from_json(entry) for entry in entries], False
    model = graph_from_file(run.verified(MODEL))
    card = card_of_graph(model, MODEL)
    images = calibration_images(dataset)
    with run.writing(step) as folder:
        limit = LIMITS[card.trained]
        reparametrized, done = reparametrize(model, passes, images, limit, progress)
        with_bn = reparametrized
        # Where no BN was absorbed, one graph serves as both.
        if any(entry.name == AbsorbBatchnorm.name and entry.changed for entry in done):
            others = passes_for(MODEL_REPARAMETRIZED_BN, passes)
            with_bn, _ = reparametrize(model, others, images, limit, progress)
        write_graph(reparametrized, card, folder / MODEL_REPARAMETRIZED)
        write_graph(with_bn, card, folder / MODEL_REPARAMETRIZED_BN)
        text = json.dumps([asdict(entry) for entry in done], indent=1) + "\n"
        (folder / REPARAMETRIZATION).write_text(text)
    return done, True


def passes_for(file: str, passes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the passes among `passes` that one of the two graphs gets."""
    return tuple(name for name in passes if file == MODEL_REPARAMETRIZED or name != AbsorbBatchnorm.name)


def reparametrize(
    model: ir.Model, passes: tuple[str, ...], images: Batch, limit: float, progress: Progress = silent
) -> tuple[ir.Model, list[Reparametrization]]:
    """Return the same network after some passes, with what each pass did.

    Args:
        model: float32 graph; the passes change a copy.
        images: normalised calibration images, float32 [N, C, H, W].
        limit: of the relative error of the logits.

    Raises:
        CheckFailed: a pass changed the network.
    """
    checked = images[:_CHECKED_IMAGES]
    original = logits_of_graph(model, checked).astype(np.float64)
    model = typed_copy(model)
    done = []
    for name in passes:
        result = _pass_named(name, model, images, progress)(model)
        model = typed_copy(model)
        noise = original - logits_of_graph(model, checked)
        error = float(np.sqrt(np.square(noise).sum() / np.square(original).sum()))
        if not error <= limit:
            raise CheckFailed(
                f"'{name}' changed the network: the logits' relative error is {error:.1e}, over {limit:.0e}",
                f"leave {name} out with --reparametrize, and report this",
            )
        done.append(Reparametrization(name=name, changed=result.changed, refused=result.refused, error=error))
    return model, done


def _pass_named(name: str, model: ir.Model, images: Batch, progress: Progress) -> GraphPass:
    """Return the pass, with the extremes of the streams if the pass needs them."""
    if name == AbsorbBatchnorm.name:
        return AbsorbBatchnorm()
    values = [value for stream in streams_of(model) for value in stream.scaled]
    extremes = channel_extremes(model, values, images, progress)
    return CentreStream(extremes) if name == CentreStream.name else EqualizeStream(extremes)


def _from_json(entry: dict[str, Any]) -> Reparametrization:
    """Read what `reparametrized_from_graph` wrote of one pass.

    Entries written before passes told what they changed have no "changed"; the graphs are the same.
    """
    return Reparametrization(**entry | {"changed": tuple(entry.get("changed", ()))})
