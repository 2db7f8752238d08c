"""`bundle --u8 --static-batch`: further artifacts, each verified by itself and described as its graph is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from seeded_faults import swap_two_classes

from artifacts.run_directory import RunDirectory
from bundling.document import ArtifactEntry, BundleDocument
from bundling.received import checked_document
from bundling.trial import trial_of
from data.dataset import scale_and_shift
from errors import UserError
from verification.probabilities import probabilities
from vocabulary import Precision
from workflow.bundle import _adapted, bundled, checked
from workflow.choice import Session, session_from_options
from workflow.options import BundleOptions, ReceivedOptions, RunOptions, SubjectOptions

ORT = SubjectOptions(engine=["ort"], precision=[Precision.fp32, Precision.int8])


def _session(run: RunDirectory) -> Session:
    return session_from_options(RunOptions(run_dir=run.path))


def _bundle(run: RunDirectory, folder: Path, **options: object) -> BundleDocument:
    bundled(_session(run), ORT, BundleOptions(out=folder, **options))  # type: ignore[arg-type]
    return checked_document(folder)


def _tensor(value: onnx.ValueInfoProto) -> tuple[str, str, tuple[str | int, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return value.name, {1: "float32", 2: "uint8"}[tensor.elem_type], shape


def test_adapted_graphs_are_further_artifacts_behind_the_others(
    preact_run: RunDirectory, tmp_path: Path
) -> None:
    document = _bundle(preact_run, tmp_path / "bundle", u8=True, static_batch=5)
    ids = [artifact.id for artifact in document.artifacts]
    assert set(ids[:2]) == {"ort-fp32", "ort-int8"}
    assert set(ids[2:]) == {
        f"ort-{precision}-{adapted}" for precision in ("fp32", "int8") for adapted in ("u8", "b5", "u8-b5")
    }
    assert not document.unverified
    for artifact in document.artifacts:
        assert artifact.verdict is not None and artifact.verdict.passed
        graph = onnx.load(tmp_path / "bundle" / artifact.file).graph
        assert _tensor(graph.input[0]) == (artifact.input.name, artifact.input.dtype, artifact.input.shape)
        assert _tensor(graph.output[0]) == (artifact.output.name, "float32", artifact.output.shape)
        assert (artifact.input.layout == "NHWC") == (artifact.input.dtype == "uint8") == ("u8" in artifact.id)
        batch = artifact.input.batch
        assert (batch.min, batch.max) == ((5, 5) if "b5" in artifact.id else (1, None))
    assert checked(ReceivedOptions(check=tmp_path / "bundle")).passed
    readme = (tmp_path / "bundle" / "README.md").read_text()
    assert 'numpy.fromfile("golden/fitted.u8", "u1").reshape(-1, 32, 32, 3)' in readme


def test_golden_file_of_a_graph_that_takes_pixels_holds_probabilities(
    preact_run: RunDirectory, tmp_path: Path
) -> None:
    document = _bundle(preact_run, tmp_path / "bundle", u8=True)
    artifacts = {artifact.id: artifact for artifact in document.artifacts}

    def golden(artifact: ArtifactEntry) -> np.ndarray:
        return np.fromfile(tmp_path / "bundle" / artifact.golden.logits, "<f4").reshape(
            document.golden.count, -1
        )

    for precision in ("fp32", "int8"):
        logits, shares = golden(artifacts[f"ort-{precision}"]), golden(artifacts[f"ort-{precision}-u8"])
        assert artifacts[f"ort-{precision}-u8"].output.values == "probabilities"
        np.testing.assert_allclose(shares, probabilities(logits), rtol=0, atol=1e-6)
        assert shares.argmax(1).tolist() == list(document.golden.labels)


def test_without_the_options_there_are_none(preact_run: RunDirectory, tmp_path: Path) -> None:
    document = _bundle(preact_run, tmp_path / "bundle")
    assert {artifact.id for artifact in document.artifacts} == {"ort-fp32", "ort-int8"}
    assert "u8" not in (tmp_path / "bundle" / "README.md").read_text().split("Use it from Python")[1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("bundle")] == ["bundle"]


def test_repository_and_page_lie_beside_the_bundle_and_are_replaced(
    preact_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page takes pixels, so that --web adds the graphs for them."""
    runtime = {"ort.wasm.bundle.min.js": b"export {};"}
    monkeypatch.setattr("bundling.onnxruntime_web.runtime_from_npm", lambda: runtime)
    options = BundleOptions(out=tmp_path / "bundle", triton=True, web=True)
    for _ in range(2):
        written = bundled(_session(preact_run), ORT, options)
        assert (written.triton, written.web) == (tmp_path / "bundle-triton", tmp_path / "bundle-web")
        ids = {artifact.id for artifact in written.document.artifacts}
        assert ids == {"ort-fp32", "ort-int8", "ort-fp32-u8", "ort-int8-u8"}
        models = {path.parent.name for path in (tmp_path / "bundle-triton").glob("*/config.pbtxt")}
        assert models == {f"digits-preact-8-{id}" for id in ids}
        assert (tmp_path / "bundle-web" / "ort" / "ort.wasm.bundle.min.js").read_bytes() == b"export {};"


def test_without_npm_nothing_is_begun(
    preact_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is not installed"):
        _bundle(preact_run, tmp_path / "bundle", web=True)
    assert not (tmp_path / "bundle").exists()
    assert "model.u8.onnx" not in preact_run


def test_folder_of_something_else_is_not_replaced(preact_run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "bundle-triton").mkdir()
    (tmp_path / "bundle-triton" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="bundle-triton is there and is no folder that skipfold wrote"):
        _bundle(preact_run, tmp_path / "bundle", triton=True)
    assert (tmp_path / "bundle-triton" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"web": True}, "no graph for a browser"), ({"triton": True}, "Triton can serve no artifact")],
)
def test_bundle_that_cannot_have_what_lies_beside_it_is_not_written(
    preact_run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, bool],
    words: str,
) -> None:
    monkeypatch.setattr("bundling.onnxruntime_web.runtime_from_npm", lambda: {"ort.js": b""})
    chosen = SubjectOptions(engine=["openvino"], precision=[Precision.fp32])
    with pytest.raises(UserError, match=words):
        bundled(_session(preact_run), chosen, BundleOptions(out=tmp_path / "bundle", **options))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("bundle")] == []


def test_graph_that_normalises_wrongly_is_not_bundled(
    preact_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        scale, shift = scale_and_shift(mean, std)
        return scale / 2, shift

    monkeypatch.setattr("export.adapted_graph.scale_and_shift", halved)
    with pytest.raises(UserError, match=r"ort fp32 \(model.u8.onnx\) is out of tolerance"):
        _bundle(preact_run, tmp_path / "bundle", u8=True)
    assert not (tmp_path / "bundle").exists()


def test_golden_pictures_find_another_network(preact_run: RunDirectory, tmp_path: Path) -> None:
    document = _bundle(preact_run, tmp_path / "bundle", u8=True)
    (artifact,) = (entry for entry in document.artifacts if entry.id == "ort-fp32-u8")
    assert trial_of(tmp_path / "bundle", document, artifact).failures == ()
    graph = onnx.load(tmp_path / "bundle" / artifact.file)
    swap_two_classes(graph, preact_run)
    onnx.save(graph, tmp_path / "bundle" / artifact.file)
    assert len(trial_of(tmp_path / "bundle", document, artifact).failures) == 2


def test_plans_are_not_adapted(preact_run: RunDirectory) -> None:
    with pytest.raises(UserError, match="adapt ONNX graphs, and there are none"):
        _adapted(_session(preact_run), [], BundleOptions(u8=True))
