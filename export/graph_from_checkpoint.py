"""The export stage: make model.onnx and audit.json of a checkpoint, and the 16-bit graphs of model.onnx."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from artifacts.json_codec import from_json
from artifacts.names import AUDIT, CHECKPOINT, CHECKPOINT_CARD, MODEL, MODEL_BF16, MODEL_FP16
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import IMAGE_SIZE
from errors import CheckFailed, UserError
from export.audit import Audit, audit
from export.onnx_from_model import onnx_from_model
from graphs.narrow import Narrow
from graphs.onnx_file import card_of_graph, graph_from_file, write_graph
from graphs.passes import PassResult
from models.checkpoint import model_in
from models.resnet import ResNet
from runtimes.ort_runtime import OrtRuntime
from runtimes.torch_runtime import graph_card_of_checkpoint
from vocabulary import Precision

# The graph of each 16-bit precision.
NARROWED: Mapping[Precision, str] = {Precision.fp16: MODEL_FP16, Precision.bf16: MODEL_BF16}
# The batch sizes at which the graph is compared with PyTorch.
CHECKED_BATCHES = (1, 7)
# The largest error allowed, relative to the largest logit. Folding, and kernels that add in another order,
# change the last bit of float32 (6e-8); over 1001 layers the error was 1e-5 at most.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Export:
    """The result of the export stage.

    Attributes:
        done: False if everything was up to date.
        audit: the nodes on the skip path.
        folded: the number of BN layers that were folded into convolutions.
        kept: the number of BN layers that stay.
        error: the largest error of a logit against PyTorch over `CHECKED_BATCHES`, relative to the largest
            logit.
    """

    done: bool
    audit: Audit
    folded: int
    kept: int
    error: float


def graph_from_checkpoint(run: RunDirectory, force: bool = False) -> Export:
    """Write model.onnx and audit.json, unless both are up to date.

    Before the graph is published, onnx.checker checks it, the audit proves what stands on the skip path, and
    ONNX Runtime compares its logits with PyTorch's at batch sizes 1 and 7.

    Raises:
        CheckFailed: the audit or the comparison failed.
    """
    step = Step(
        stage="export",
        options={"precision": "fp32"},
        inputs=(CHECKPOINT, CHECKPOINT_CARD),
        outputs=(MODEL, AUDIT),
        packages=("torch", "onnx", "onnx-ir"),
    )
    if run.is_current(step) and not force:
        return _recorded(run)
    model, card = model_in(run)
    with run.writing(step) as folder:
        graph, folded = onnx_from_model(model)
        skip_path = audit(graph, model.config)
        write_graph(graph, graph_card_of_checkpoint(card, run.path / CHECKPOINT), folder / MODEL)
        result = Export(True, skip_path, *_counts(folded), error_against(model, folder / MODEL))
        document = {
            "audit": skip_path.to_json(),
            "folded": result.folded,
            "kept": result.kept,
            "error": result.error,
        }
        (folder / AUDIT).write_text(json.dumps(document, indent=1) + "\n")
    return result


def narrowed_from_graph(run: RunDirectory, precision: Precision, force: bool = False) -> bool:
    """Write model.fp16.onnx or model.bf16.onnx, unless the file is up to date.

    Args:
        run: the run directory, which must hold model.onnx.
        precision: "fp16" or "bf16".
        force: True writes the file even if it is up to date.

    Returns:
        whether anything was done.

    Raises:
        CheckFailed: a weight is too large for the 16-bit type.
    """
    name = NARROWED[precision]
    step = Step("narrow", {"precision": precision}, (MODEL,), (name,), ("onnx", "onnx-ir"))
    if run.is_current(step) and not force:
        return False
    graph = graph_from_file(run.verified(MODEL))
    card = card_of_graph(graph, MODEL)
    with run.writing(step) as folder:
        Narrow(precision)(graph)
        write_graph(graph, card.with_precision(precision), folder / name)
    return True


def error_against(model: ResNet, path: Path) -> float:
    """Return the largest logit error of a float32 ONNX file, relative to the largest logit of `model`.

    Raises:
        CheckFailed: the error is above `TOLERANCE` or is not a number.
    """
    generator = np.random.default_rng(0)
    errors = []
    with OrtRuntime(path, Precision.fp32) as runtime:
        for batch in CHECKED_BATCHES:
            shape = (batch, model.config.in_channels, IMAGE_SIZE, IMAGE_SIZE)
            images = generator.standard_normal(shape, np.float32)
            with torch.inference_mode():
                expected = model(torch.from_numpy(images)).numpy()
            errors.append(np.abs(runtime.infer(images) - expected).max() / np.abs(expected).max())
    # np.max keeps NaN, which the built-in max() may drop.
    worst = float(np.max(errors))
    if not worst <= TOLERANCE:
        raise CheckFailed(
            f"{path.name} differs from PyTorch by {worst:.2g} of the largest logit, and may by {TOLERANCE:g}",
            "report this together with the checkpoint; nothing was exported",
        )
    return worst


def _counts(folded: PassResult) -> tuple[int, int]:
    return len(folded.changed), len(folded.refused)


def _recorded(run: RunDirectory) -> Export:
    """What audit.json says of the export that is up to date."""
    path = run.verified(AUDIT)
    try:
        document = json.loads(path.read_text())
        # Derived from the rest, for whoever reads the file.
        del document["audit"]["clean"]
        audit = from_json(Audit, document["audit"])
        return Export(False, audit, document["folded"], document["kept"], document["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the record of an export ({error})", "run `export --force`") from error
