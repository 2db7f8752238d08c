"""What stands in a bundle of a small run, and that the bytes are always the same."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
from command_line import snapshot
from fault_injection import publish_engine

from artifacts.names import CHECKPOINT
from artifacts.run_directory import RunDirectory
from bundling.assemble import _artifact_files
from bundling.candidates import candidates_of
from bundling.document import README
from bundling.judged import Judged
from data.dataset import Dataset, scale_and_shift
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime
from runtimes.subjects import Subject
from vocabulary import Device, Precision
from workflow.bundle import WrittenBundle, bundled
from workflow.choice import session_from_options
from workflow.options import BundleOptions, RunOptions, RuntimeOptions, SubjectOptions


def test_the_artifacts_are_the_files_of_the_run(written: WrittenBundle, bundled_run: RunDirectory) -> None:
    for artifact in written.document.artifacts:
        assert artifact.is_verified
        name = Path(artifact.file).name
        assert (written.folder / artifact.file).read_bytes() == bundled_run.verified(name).read_bytes()
    files = {artifact.id: artifact.file for artifact in written.document.artifacts}
    assert files == {
        "ort-fp32": "models/model.onnx",
        "ort-int8": "models/model.int8.cpu.onnx",
        "openvino-fp32": "models/model.onnx",
        "openvino-int8": "models/model.int8.openvino.onnx",
    }


def test_the_graph_lies_beside_a_plan(preact_run: RunDirectory) -> None:
    """A plan opens in one version of TensorRT, and a receiver who has another one builds from the graph."""
    plan = "engines/fp32.rtx.engine"
    publish_engine(preact_run, plan)
    judged = Judged(Subject("trt", Precision.fp32, plan, Device.cuda), None)
    files = _artifact_files(preact_run, candidates_of(preact_run, [judged]))
    assert sorted(files) == ["engines/fp32.rtx.engine", "engines/fp32.rtx.json", "models/model.onnx"]
    assert files["models/model.onnx"] == preact_run.verified("model.onnx").read_bytes()


def test_runtimes_say_which_versions_and_cpus_were_seen(written: WrittenBundle) -> None:
    for artifact in written.document.artifacts:
        versions = {"ort": onnxruntime.__version__, "openvino": openvino.__version__.split("-")[0]}
        assert versions[artifact.runtime.name].startswith(artifact.runtime.verified_version)
        assert artifact.runtime.accepts == "same major"
        expected = ("x86_64", "aarch64") if artifact.runtime.name == "ort" else ("x86_64",)
        assert artifact.hardware.arch == expected


def test_the_network_is_named(written: WrittenBundle, bundled_run: RunDirectory, digits: Dataset) -> None:
    network = written.document.network
    assert (network.variant, network.depth, network.block, network.dataset) == (
        "preact",
        8,
        "basic",
        "digits",
    )
    assert network.trained
    assert network.checkpoint_sha256 == bundled_run.record(CHECKPOINT).sha256
    assert written.document.classes == digits.classes
    assert not written.document.unverified


def test_the_settings_are_those_of_the_python_runtimes(written: WrittenBundle) -> None:
    settings = {artifact.runtime.name: artifact.runtime.settings for artifact in written.document.artifacts}
    assert settings == {"ort": OrtRuntime.settings, "openvino": OpenVinoRuntime.settings}
    assert settings["openvino"]["INFERENCE_PRECISION_HINT"] == "f32"


def test_scale_and_shift_are_read_back_exactly(written: WrittenBundle, digits: Dataset) -> None:
    fields = json.loads((written.folder / "bundle.json").read_text())["normalise"]
    for name, exact in zip(("scale", "shift"), scale_and_shift(digits.mean, digits.std), strict=True):
        assert np.array_equal(np.array(fields[name], np.float32), exact)
        assert all(float(np.float32(value)) == value for value in fields[name])


def test_the_input_is_two_roundings_of_the_pixels(written: WrittenBundle) -> None:
    """A fused multiply and add would round once, and some values would differ."""
    normalise, golden = written.document.normalise, written.document.golden
    pixels = np.fromfile(written.folder / golden.fitted, np.uint8).reshape(golden.count, 32, 32, 3)
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    scale, shift = (np.array(x, np.float32)[:, None, None] for x in (normalise.scale, normalise.shift))
    product = planes * scale
    expected = (product - shift).astype("<f4")
    assert expected.tobytes() == (written.folder / golden.input).read_bytes()


def test_the_list_of_files_is_closed_and_sorted(written: WrittenBundle) -> None:
    files = snapshot(written.folder)
    listed = written.document.files
    assert list(listed) == sorted(listed)
    assert set(files) == {*listed, "bundle.json"}
    for name, entry in listed.items():
        assert entry.bytes == len(files[name])
        assert entry.sha256 == hashlib.sha256(files[name]).hexdigest()
    assert written.sha256 == hashlib.sha256(files["bundle.json"]).hexdigest()


def test_the_licence_is_the_projects(written: WrittenBundle) -> None:
    assert (written.folder / "LICENSE").read_bytes() == Path(__file__).parents[2].joinpath(
        "LICENSE"
    ).read_bytes()


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_the_lines_of_python_in_the_readme_run(
    written: WrittenBundle, bundled_run: RunDirectory, tmp_path: Path, engine: str
) -> None:
    session = session_from_options(RunOptions(run_dir=bundled_run.path))
    bundle = bundled(session, SubjectOptions(engine=[engine]), BundleOptions(out=tmp_path / engine))
    lines = (bundle.folder / README).read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("    import json"))
    code = "\n".join(line[4:] for line in lines[start : start + 5])
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle.folder, capture_output=True, text=True)
    document = written.document
    assert done.stdout.strip() == str([document.classes[label] for label in bundle.document.golden.labels])


def test_the_same_run_gives_the_same_bytes(
    written: WrittenBundle, bundled_run: RunDirectory, tmp_path: Path
) -> None:
    """In another place and with another number of threads; an archive has the name of its folder in it."""
    session = session_from_options(RunOptions(run_dir=bundled_run.path))
    options = BundleOptions(out=tmp_path / "elsewhere" / "small", archive=True)
    again = bundled(session, options=options, runtime=RuntimeOptions(threads=2))
    assert snapshot(again.folder) == snapshot(written.folder)
    assert again.archive is not None and written.archive is not None
    assert again.archive.read_bytes() == written.archive.read_bytes()


def test_nothing_of_this_machine_stands_in_the_bundle(
    written: WrittenBundle, bundled_run: RunDirectory
) -> None:
    """Neither paths nor the date; of the machine that verified the artifacts the verdicts say what it was."""
    text = b"".join(
        content for name, content in snapshot(written.folder).items() if name.endswith((".json", ".md"))
    )
    for word in (
        str(bundled_run.path),
        str(written.folder),
        str(Path.cwd()),
        str(Path.home()),
        "T00:00",
        "UTC",
    ):
        assert word.encode() not in text
