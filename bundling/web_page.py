"""A folder with a page that classifies pictures in a browser, made of a bundle.

    index.html, style.css, *.js     the page; see `bundling/web/`
    page.json                       what the page has to know of the bundle
    ort/                            ONNX Runtime for browsers; see `bundling.onnxruntime_web`
    model.onnx                      the graph that takes pixels and is preferred for ONNX Runtime
    golden/                         the golden pictures with their pixels and probabilities
    README.md                       how to serve the folder
    files.json                      every file with its sha256; see `bundling.closed_folder`

Any static server will do. One thread computes, so that the server need not send the headers that browsers
ask for before they share memory between threads, and nothing is loaded from elsewhere. When the page is
opened it runs the golden pictures, and says whether the browser computes what was verified.
"""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from bundling.document import ArtifactEntry, BundleDocument
from errors import UserError
from vocabulary import Precision

PAGE_FILES = (
    "index.html",
    "style.css",
    "page.js",
    "fit.js",
    "pictures.js",
    "network.js",
    "self_test.js",
    "README.md",
)
DESCRIPTION = "page.json"
_PROBABILITIES = "golden/probabilities.f32"
# How far the browser's probabilities may be from those of ONNX Runtime on the machine that wrote the
# bundle. Measured on 200 test pictures each of a ResNet-20 for digits and two for CIFAR-10: 1.4e-6 in
# float32 and 0.016 in INT8, where kernels in WebAssembly round a few values to another code.
TOLERANCES: Mapping[Precision, float] = {Precision.fp32: 1e-4, Precision.int8: 0.05}


def web_from_bundle(bundle: Path, document: BundleDocument, runtime: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a page by their paths.

    Args:
        bundle: the folder of the bundle, whose files have been checked.
        document: the bundle's bundle.json.
        runtime: the files of ONNX Runtime, as `bundling.onnxruntime_web` gives them.

    Raises:
        UserError: no graph of the bundle takes pixels in ONNX Runtime.
    """
    artifact = artifact_for_browsers(document)
    return {
        **{name: resources.files("bundling").joinpath("web", name).read_bytes() for name in PAGE_FILES},
        **{f"ort/{name}": content for name, content in runtime.items()},
        **{name: (bundle / source).read_bytes() for name, source in _copied(document, artifact).items()},
        DESCRIPTION: json.dumps(_description(document, artifact), indent=1).encode(),
    }


def artifact_for_browsers(document: BundleDocument) -> ArtifactEntry:
    """Return the preferred graph that takes any number of pictures as pixels, in ONNX Runtime.

    Raises:
        UserError: there is none.
    """
    for artifact in document.artifacts:
        takes_any = artifact.input.dtype == "uint8" and artifact.input.batch.max is None
        if artifact.runtime.name == "ort" and takes_any:
            return artifact
    raise UserError("the bundle has no graph for a browser", "add --engine ort, or leave out --web")


def _copied(document: BundleDocument, artifact: ArtifactEntry) -> dict[str, str]:
    """Return where each file of the page comes from in the bundle."""
    golden = document.golden
    return {
        "model.onnx": artifact.file,
        golden.fitted: golden.fitted,
        _PROBABILITIES: artifact.golden.logits,
        **{picture: picture for picture in golden.pictures},
    }


def _description(document: BundleDocument, artifact: ArtifactEntry) -> dict[str, Any]:
    """Return what page.json says."""
    network, golden = document.network, document.golden
    return {
        "title": f"{network.dataset}: {len(document.classes)} classes",
        "subtitle": f"ResNet-{network.depth}, {_DESIGNS[network.variant]}, {artifact.precision}",
        "about": _about(artifact),
        "classes": document.classes,
        "size": document.picture.height,
        "model": "model.onnx",
        "input": artifact.input.name,
        "output": artifact.output.name,
        "tolerance": TOLERANCES[artifact.precision],
        "golden": {
            "pictures": golden.pictures,
            "fitted": golden.fitted,
            "probabilities": _PROBABILITIES,
            "labels": golden.labels,
        },
        "sha256": {
            name: document.files[source].sha256 for name, source in _copied(document, artifact).items()
        },
    }


_DESIGNS = {"preact": "pre-activation", "original": "original design"}


def _about(artifact: ArtifactEntry) -> str:
    """Return what `verify` found out about the artifact, in a sentence."""
    verdict = artifact.verdict
    if verdict is None or not verdict.passed:
        return "This model has not passed verification against the network that was trained."
    return (
        f"Before this model was bundled, it was verified on {verdict.images} test pictures: "
        f"{verdict.accuracy:.2f} % of its answers are right, and {verdict.agreement:.2f} % are those of the "
        "network that was trained."
    )
