"""The export stage: checkpoint -> model.onnx with its audit, and that -> model.fp16.onnx, model.bf16.onnx."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from artifacts.names import AUDIT, CHECKPOINT, CHECKPOINT_CARD, MODEL, MODEL_BF16, MODEL_FP16
from artifacts.records import Step
from artifacts.run_directory import RunDirectory
from data.dataset import IMAGE_SIZE
from errors import CheckFailed
from export.audit import Audit, audit
from export.onnx_from_model import onnx_from_model
from graphs.narrow import Narrow
from graphs.onnx_file import card_of_graph, graph_from_file, write_graph
from graphs.passes import PassResult
from models.checkpoint import model_in
from models.resnet import ResNet
from runtimes.ort_runtime import OrtRuntime
from runtimes.torch_runtime import graph_card
from vocabulary import Precision

NARROWED = {Precision.fp16: MODEL_FP16, Precision.bf16: MODEL_BF16}
CHECKED_BATCHES = (1, 7)
# Largest error relative to the largest logit. Folding and kernels of another summation order change
# the last bits of float32 (6e-8); over 1001 layers 1e-5 was the most seen.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Export:
    """What the export stage found.

    Attributes:
        done: False where everything was up to date.
        audit: the skip path.
        folded, kept: number of BN layers folded into convolutions, and of those that stay.
        error: largest logit error against PyTorch over `CHECKED_BATCHES`, relative to the largest
            logit.
    """

    done: bool
    audit: Audit
    folded: int
    kept: int
    error: float


def graph_from_checkpoint(run: RunDirectory, force: bool = False) -> Export:
    """Write model.onnx and audit.json, unless they are up to date.

    The graph is checked before it is published: by onnx.checker, by the skip-path audit, and against
    PyTorch at batch 1 and 7 in ONNX Runtime.

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
        found = audit(graph, model.config)
        write_graph(graph, graph_card(card, run.path / CHECKPOINT), folder / MODEL)
        result = Export(True, found, *_counts(folded), error_against(model, folder / MODEL))
        document = {
            "audit": found.to_json(),
            "folded": result.folded,
            "kept": result.kept,
            "error": result.error,
        }
        (folder / AUDIT).write_text(json.dumps(document, indent=1) + "\n")
    return result


def narrowed_from_graph(run: RunDirectory, precision: Precision, force: bool = False) -> bool:
    """Write model.fp16.onnx or model.bf16.onnx, unless it is up to date.

    Args:
        precision: fp16 or bf16.

    Returns:
        whether anything was done.

    Raises:
        CheckFailed: that type cannot hold a weight.
    """
    name = NARROWED[precision]
    step = Step("export", {"precision": precision}, (MODEL,), (name,), ("onnx", "onnx-ir"))
    if run.is_current(step) and not force:
        return False
    graph = graph_from_file(run.verified(MODEL))
    card = card_of_graph(graph, MODEL)
    with run.writing(step) as folder:
        Narrow(precision)(graph)
        write_graph(graph, card.with_precision(precision), folder / name)
    return True


def error_against(model: ResNet, path: Path) -> float:
    """Largest logit error of a float32 ONNX file relative to the largest logit of `model`.

    Raises:
        CheckFailed: it is above `TOLERANCE`.
    """
    generator = np.random.default_rng(0)
    errors = []
    with OrtRuntime(path, "fp32") as runtime:
        for batch in CHECKED_BATCHES:
            shape = (batch, model.config.in_channels, IMAGE_SIZE, IMAGE_SIZE)
            images = generator.standard_normal(shape, np.float32)
            with torch.inference_mode():
                expected = model(torch.from_numpy(images)).numpy()
            errors.append(np.abs(runtime.infer(images) - expected).max() / np.abs(expected).max())
    worst = float(np.max(errors))  # unlike max(), keeps NaN
    if not worst <= TOLERANCE:
        raise CheckFailed(
            f"{path.name} differs from PyTorch by {worst:.2g} of the largest logit, over {TOLERANCE:g}",
            "report this with the checkpoint; nothing was exported",
        )
    return worst


def _counts(folded: PassResult) -> tuple[int, int]:
    return len(folded.changed), len(folded.refused)


def _recorded(run: RunDirectory) -> Export:
    document = json.loads(run.verified(AUDIT).read_text())
    fields = document["audit"]
    found = Audit(*(tuple(fields[name]) for name in ("adds", "projections", "relus")))
    return Export(False, found, document["folded"], document["kept"], document["error"])
