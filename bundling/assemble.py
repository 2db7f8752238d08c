"""A run to a bundle in memory: the document, and the content of every file that the document lists."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath

from artifacts.json_codec import to_text
from artifacts.run_directory import RunDirectory
from bundling.candidates import MODELS, Candidate
from bundling.closed_folder import entries_of
from bundling.document import (
    LICENSE,
    PRODUCER,
    README,
    SCHEMA,
    ArtifactEntry,
    BundleDocument,
    GoldenEntry,
    NetworkEntry,
    NormaliseEntry,
    PictureEntry,
)
from bundling.entries import entry_of, limit_of
from bundling.golden import Golden, golden_from_runtimes
from bundling.golden_pictures import pictures_from_split
from data.dataset import IMAGE_SIZE, Split, scale_and_shift
from graphs.card import GraphCard
from runtimes.subjects import open_subject
from vocabulary import Block, Variant

_CROP = "centre square"
_RESIZE = "antialiased bilinear, horizontally then vertically, 8-bit codes between the passes"


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        document: what becomes bundle.json.
        files: the content of every file that the document lists, by the path in the bundle.
    """

    document: BundleDocument
    files: Mapping[str, bytes]

    @property
    def text(self) -> bytes:
        """The content of bundle.json."""
        return to_text(self.document).encode()

    @property
    def sha256(self) -> str:
        """The sha256 of bundle.json, which stands for the whole bundle."""
        return hashlib.sha256(self.text).hexdigest()


def bundle_from_run(
    run: RunDirectory,
    test: Split,
    candidates: list[Candidate],
    threads: int | None = None,
    allow_saturation: bool = False,
    more: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Assemble a bundle; the golden logits are computed here.

    Args:
        test: the test split, which the golden pictures are made of.
        candidates: in order of preference, at least one.
        more: further files, by their paths in the bundle.

    Raises:
        UserError: an artifact is not what the manifest says, or a runtime that computes golden logits is
            missing here.
        CheckFailed: no golden picture can be found; see `golden_from_runtimes`.
    """
    golden = _golden(run, test, candidates, threads, allow_saturation)
    entries = tuple(entry_of(candidate) for candidate in candidates)
    card = candidates[0].card
    files = {
        **_artifact_files(run, candidates),
        **_golden_files(golden, entries),
        **(more or {}),
        LICENSE: Path(__file__).parents[1].joinpath(LICENSE).read_bytes(),
    }
    document = _document(card, entries, golden)
    files[README] = _readme(document)
    return Bundle(replace(document, files=entries_of(files)), files)


def _golden(
    run: RunDirectory, test: Split, candidates: list[Candidate], threads: int | None, allow_saturation: bool
) -> Golden:
    with ExitStack() as stack:
        runtimes = {
            candidate.id: stack.enter_context(
                open_subject(run, candidate.golden_subject, threads, allow_saturation)
            )
            for candidate in candidates
        }
        limits = {candidate.id: limit_of(candidate) for candidate in candidates}
        return golden_from_runtimes(pictures_from_split(test), runtimes, limits, candidates[0].card)


def _document(card: GraphCard, entries: tuple[ArtifactEntry, ...], golden: Golden) -> BundleDocument:
    """Return the document without its list of files."""
    scale, shift = scale_and_shift(card.mean, card.std)
    return BundleDocument(
        schema=SCHEMA,
        producer=PRODUCER,
        network=NetworkEntry(
            Variant(card.variant), card.depth, Block(card.block), card.dataset, card.trained, card.checkpoint
        ),
        classes=card.classes,
        picture=PictureEntry("rgb", IMAGE_SIZE, IMAGE_SIZE, _CROP, _RESIZE),
        normalise=NormaliseEntry(
            "x*scale-shift", tuple(scale.tolist()), tuple(shift.tolist()), card.mean, card.std
        ),
        artifacts=entries,
        golden=GoldenEntry(
            count=len(golden.labels),
            pictures=tuple(_picture_path(index) for index in range(len(golden.pictures))),
            fitted="golden/fitted.u8",
            input="golden/input.f32",
            labels=golden.labels,
        ),
        files={},
        unverified=not all(entry.is_verified for entry in entries) or not card.trained,
    )


def _artifact_files(run: RunDirectory, candidates: list[Candidate]) -> dict[str, bytes]:
    """Return the artifacts with their sidecars, and always the ONNX file that a plan was built from.

    A plan opens in one version of its library and on some GPUs; from the ONNX file another one can be built.
    """
    files = {}
    for candidate in candidates:
        files[candidate.file] = run.verified(candidate.subject.artifact).read_bytes()
        if candidate.source is not None:
            sidecar = str(PurePosixPath(candidate.file).with_suffix(".json"))
            files[sidecar] = run.verified(sidecar).read_bytes()
            files[f"{MODELS}/{candidate.source}"] = run.verified(candidate.source).read_bytes()
    return files


def _golden_files(golden: Golden, entries: tuple[ArtifactEntry, ...]) -> dict[str, bytes]:
    return {
        **{_picture_path(index): content for index, content in enumerate(golden.pictures)},
        "golden/fitted.u8": golden.fitted.tobytes(),
        "golden/input.f32": golden.images.astype("<f4").tobytes(),
        **{entry.golden.logits: golden.logits[entry.id].astype("<f4").tobytes() for entry in entries},
    }


def _picture_path(index: int) -> str:
    return f"golden/pictures/{index:02}.png"


def _readme(document: BundleDocument) -> bytes:
    from jinja2 import Environment

    template = resources.files("bundling").joinpath("README.md.j2").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    examples = {
        artifact.runtime.name: artifact
        for artifact in reversed(document.artifacts)
        if artifact.input.layout == "NCHW" and artifact.input.batch.min != artifact.input.batch.max
    }
    return environment.from_string(template).render(bundle=document, examples=examples).encode()
