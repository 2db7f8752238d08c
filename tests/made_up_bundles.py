"""Bundles of a few real graphs with made-up entries, for what is made of a finished bundle."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from fault_injection import publish_engine

from artifacts.names import MODEL, MODEL_INT8_CPU, MODEL_INT8_OPENVINO
from artifacts.run_directory import RunDirectory
from bundling.document import (
    PRODUCER,
    SCHEMA,
    ArtifactEntry,
    BatchEntry,
    BundleDocument,
    GoldenEntry,
    GoldenLogitsEntry,
    HardwareEntry,
    InputEntry,
    NetworkEntry,
    NormaliseEntry,
    OutputEntry,
    PictureEntry,
    RuntimeEntry,
    RuntimeName,
    ToleranceEntry,
)
from data.dataset import Dataset, scale_and_shift
from export.adapted_graph import Adaptation, adapted_from_graph
from graphs.card import GraphCard
from graphs.onnx_file import card_from_file
from vocabulary import Block, Precision, Variant

GOLDEN = 6
PLAN = "engines/int8.tensorrt.engine"


def bundle_in(folder: Path, run: RunDirectory, dataset: Dataset) -> BundleDocument:
    """Make the folder of a bundle with two adapted graphs and a plan that is none."""
    for name in ("models", "engines", "golden"):
        (folder / name).mkdir(parents=True)
    pixels, _ = adapted_from_graph(run, MODEL, Adaptation(pixels=True))
    fixed, _ = adapted_from_graph(run, MODEL_INT8_CPU, Adaptation(pixels=True, batch=4))
    publish_engine(run, PLAN, builder="tensorrt")
    files = {
        "ort-fp32": (MODEL, "ort"),
        "ort-fp32-u8": (pixels, "ort"),
        "ort-int8-u8-b4": (fixed, "ort"),
        "openvino-fp32": (MODEL, "openvino"),
        "openvino-int8": (MODEL_INT8_OPENVINO, "openvino"),
    }
    for name, _ in files.values():
        shutil.copy(run.path / name, folder / "models" / name)
    for suffix in (".engine", ".json"):
        shutil.copy((run.path / PLAN).with_suffix(suffix), (folder / PLAN).with_suffix(suffix))
    images = dataset.test.images[:GOLDEN]
    images.transpose(0, 2, 3, 1).tofile(folder / "golden" / "fitted.u8")
    dataset.normalised(images).astype("<f4").tofile(folder / "golden" / "input.f32")
    card = card_from_file(run.path / MODEL)
    graphs = [
        _graph_entry(id, f"models/{name}", card_from_file(run.path / name), runtime)  # type: ignore[arg-type]
        for id, (name, runtime) in files.items()
    ]
    return _document(card, dataset, (*graphs, _plan_entry(card)))


def _document(card: GraphCard, dataset: Dataset, entries: tuple[ArtifactEntry, ...]) -> BundleDocument:
    scale, shift = (tuple(map(float, array)) for array in scale_and_shift(card.mean, card.std))
    return BundleDocument(
        schema=SCHEMA,
        producer=PRODUCER,
        network=NetworkEntry(
            Variant(card.variant), card.depth, Block(card.block), card.dataset, card.trained, card.checkpoint
        ),
        classes=card.classes,
        picture=PictureEntry("rgb", 32, 32, "centre square", "antialiased bilinear"),
        normalise=NormaliseEntry("x*scale-shift", scale, shift, card.mean, card.std),
        artifacts=entries,
        golden=GoldenEntry(
            GOLDEN, (), "golden/fitted.u8", "golden/input.f32", tuple(map(int, dataset.test.labels[:GOLDEN]))
        ),
        files={},
        unverified=True,
    )


def _graph_entry(id: str, file: str, card: GraphCard, runtime: RuntimeName) -> ArtifactEntry:
    batch: str | int = card.batch or "batch"
    pixels = card.takes_pixels
    return ArtifactEntry(
        id=id,
        file=file,
        format="onnx",
        precision=card.precision,
        input=InputEntry(
            "images",
            "uint8" if pixels else "float32",
            "NHWC" if pixels else "NCHW",
            (batch, 32, 32, 3) if pixels else (batch, 3, 32, 32),
            BatchEntry(card.batch or 1, card.batch or None),
        ),
        output=OutputEntry(
            card.output, "float32", (batch, len(card.classes)), "probabilities" if pixels else "logits"
        ),
        runtime=RuntimeEntry(runtime, "1.0.0", "any", {}),
        hardware=HardwareEntry(("x86_64",), "not needed", ()),
        golden=GoldenLogitsEntry(f"golden/logits.{id}.f32", 80, "ort"),
        tolerance=ToleranceEntry(20, 97, 0.5, "made up"),
        verdict=None,
    )


def _plan_entry(card: GraphCard) -> ArtifactEntry:
    entry = _graph_entry("tensorrt-int8", PLAN, card, "tensorrt")
    return replace(
        entry,
        format="tensorrt plan",
        precision=Precision.int8,
        input=replace(entry.input, batch=BatchEntry(1, 128)),
        hardware=HardwareEntry(("x86_64",), "not needed", (89,)),
    )


def without(document: BundleDocument, *ids: str) -> BundleDocument:
    """Return the document without some artifacts."""
    return replace(document, artifacts=tuple(e for e in document.artifacts if e.id not in ids))


def with_runtime(document: BundleDocument, runtime: Literal["tensorrt-rtx"], **more: Any) -> BundleDocument:
    """Return the document with one artifact, which another runtime runs."""
    entry = replace(document.artifacts[0], runtime=RuntimeEntry(runtime, "1.7", "exact", {}), **more)
    return replace(document, artifacts=(entry,))
