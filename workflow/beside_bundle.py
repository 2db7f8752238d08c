"""What is written beside a bundle: a model repository for Triton, and a page for browsers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from workflow.choice import Session
from workflow.listener import busy

if TYPE_CHECKING:
    from bundling.document import BundleDocument


def require_served(document: "BundleDocument", triton: bool, web: bool) -> None:
    """Raise UserError unless a bundle has what Triton, or a browser, can open."""
    from bundling.triton import served_artifacts
    from bundling.web_page import artifact_for_browsers

    if triton:
        served_artifacts(document)
    if web:
        artifact_for_browsers(document)


def repository_beside(session: Session, folder: Path, document: "BundleDocument") -> Path:
    """Write the model repository of a bundle, and say what it leaves out.

    Args:
        folder: the bundle's; the repository is FOLDER-triton.
    """
    from bundling.triton import triton_from_bundle
    from bundling.writing import folder_beside, write_folder

    network = document.network
    name = f"{network.dataset}-{network.variant}-{network.depth}"
    repository = triton_from_bundle(folder, document, name)
    for id, reason in repository.left_out.items():
        session.listener.say("triton", f"left out {id}: {reason}")
    out = folder_beside(folder, "triton")
    write_folder(repository.files, out)
    return out


def runtime_of_browsers(session: Session) -> Mapping[str, bytes]:
    """Fetch ONNX Runtime for browsers; raises as `bundling.onnxruntime_web.runtime_from_npm` does."""
    from bundling.onnxruntime_web import runtime_from_npm

    with busy(session.listener, "fetching onnxruntime-web"):
        return runtime_from_npm()


def page_beside(folder: Path, document: "BundleDocument", runtime: Mapping[str, bytes]) -> Path:
    """Write the page of a bundle.

    Args:
        folder: the bundle's; the page is FOLDER-web.
        runtime: what `runtime_of_browsers` gave.
    """
    from bundling.web_page import web_from_bundle
    from bundling.writing import folder_beside, write_folder

    out = folder_beside(folder, "web")
    write_folder(web_from_bundle(folder, document, runtime), out)
    return out
