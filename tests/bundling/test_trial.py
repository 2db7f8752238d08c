"""Golden pictures through artifacts: what passes, what fails and what is not run."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spoiled_bundles import replace_file

from bundling.document import BundleDocument
from bundling.received import checked_document
from bundling.trial import accepts_version, artifact_runtime, compared, require_same_pictures, trial_of
from errors import CheckFailed, UserError

LABELS = (0, 1)
EXPECTED = np.array([[4, 0], [0, 3]], np.float32)


def test_equal_logits() -> None:
    trial = compared(EXPECTED, EXPECTED, LABELS, 80)
    assert (trial.snr_db, trial.failures) == (math.inf, ())


@pytest.mark.parametrize(
    ("limit", "failures"), [(38, ()), (38.5, ("38.1 dB from the golden logits, under 38.5",))]
)
def test_the_limit_by_hand(limit: float, failures: tuple[str, ...]) -> None:
    """The squares sum to 25, and an error of 1/16 is 10 log10(25 * 256) = 38.06 dB below."""
    logits = EXPECTED + np.array([[0, 1 / 16], [0, 0]], np.float32)
    assert compared(EXPECTED, logits, LABELS, limit).failures == failures


def test_another_label_fails_whatever_the_noise() -> None:
    trial = compared(EXPECTED, EXPECTED[:, ::-1], LABELS, -math.inf)
    assert trial.failures == ("2 of 2 golden pictures get another label",)


def test_logits_that_are_not_finite_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        compared(EXPECTED, EXPECTED * np.nan, LABELS, 80)


def test_every_artifact_gives_its_golden_logits(bundle_copy: Path, bundle_document: BundleDocument) -> None:
    require_same_pictures(bundle_copy, bundle_document)
    for artifact in bundle_document.artifacts:
        trial = trial_of(bundle_copy, bundle_document, artifact)
        assert trial.failures == (), artifact.id
        assert trial.snr_db >= artifact.golden.snr_db


def test_an_artifact_that_computes_something_else_fails(
    bundle_copy: Path, bundle_document: BundleDocument
) -> None:
    """The logits of the INT8 artifact in the place of those of the float32 one are some 40 dB off."""
    int8, fp32 = (
        next(a for a in bundle_document.artifacts if a.id == f"ort-{name}") for name in ("int8", "fp32")
    )
    replace_file(bundle_copy, fp32.golden.logits, (bundle_copy / int8.golden.logits).read_bytes())
    trial = trial_of(bundle_copy, checked_document(bundle_copy), fp32)
    (failure,) = trial.failures
    assert failure.endswith("dB from the golden logits, under 80")
    assert 10 < trial.snr_db < 80


def test_bfloat16_instead_of_float32_fails(
    bundle_copy: Path, bundle_document: BundleDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs that have bfloat16, OpenVINO computes in it unless it is told not to."""
    from machine.cpu import instruction_sets
    from runtimes.openvino_runtime import OpenVinoRuntime

    if "AVX512-bf16" not in instruction_sets():
        pytest.skip("this CPU does not compute in bfloat16")
    settings = {"INFERENCE_PRECISION_HINT": "bf16"}
    monkeypatch.setattr(OpenVinoRuntime, "settings", settings)
    artifact = next(a for a in bundle_document.artifacts if a.id == "openvino-fp32")
    artifact = replace(artifact, runtime=replace(artifact.runtime, settings=settings))
    trial = trial_of(bundle_copy, bundle_document, artifact)
    assert trial.failures


def test_another_picture_is_noticed(bundle_copy: Path, bundle_document: BundleDocument) -> None:
    name = bundle_document.golden.pictures[3]
    with Image.open(bundle_copy / name) as file:
        pixels = np.array(file)
    pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] ^= 64
    Image.fromarray(pixels).save(bundle_copy / name)
    with pytest.raises(CheckFailed, match=rf"{name} gives other pixels here than in golden/fitted\.u8"):
        require_same_pictures(bundle_copy, bundle_document)


@pytest.mark.parametrize("name", ["mean", "std", "scale", "shift"])
def test_numbers_that_do_not_belong_together_are_noticed(
    bundle_copy: Path, bundle_document: BundleDocument, name: str
) -> None:
    values = getattr(bundle_document.normalise, name)
    other = replace(bundle_document.normalise, **{name: (values[0], values[1], values[2] * 1.001)})
    with pytest.raises(CheckFailed, match="scale and shift are not those of mean and std"):
        require_same_pictures(bundle_copy, replace(bundle_document, normalise=other))


def test_another_input_is_noticed(bundle_copy: Path, bundle_document: BundleDocument) -> None:
    """By one bit of one value."""
    path = bundle_copy / bundle_document.golden.input
    content = bytearray(path.read_bytes())
    content[40_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckFailed, match=r"golden/fitted\.u8 is normalised to other values"):
        require_same_pictures(bundle_copy, bundle_document)


@pytest.mark.parametrize(
    ("accepts", "made_with", "found", "expected"),
    [
        ("any", "1.2.3", "9", True),
        ("same major", "2026.4.1", "2026.0.0", True),
        ("same major", "2026.4.1", "2027.4.1", False),
        ("same major", "1.31.1", "1.21", True),
        ("same major", "1.31.1", "11.31.1", False),
        ("same major and minor", "2026.4.1", "2026.4.0", True),
        ("same major and minor", "2026.4.1", "2026.3.1", False),
        ("exact", "1.7.1.116", "1.7.1.116", True),
        ("exact", "1.7.1.116", "1.7.1.117", False),
    ],
)
def test_accepted_versions(accepts: str, made_with: str, found: str, expected: bool) -> None:
    assert accepts_version(accepts, made_with, found) == expected  # type: ignore[arg-type]


def test_a_version_that_is_not_accepted(bundle_copy: Path, bundle_document: BundleDocument) -> None:
    artifact = next(a for a in bundle_document.artifacts if a.id == "ort-fp32")
    runtime = replace(artifact.runtime, verified_version="0.9.1", accepts="same major")
    with pytest.raises(
        UserError, match=r"made with onnxruntime 0\.9\.1 and accepts same major of it, and 1\."
    ):
        artifact_runtime(bundle_copy, replace(artifact, runtime=runtime))


def test_settings_that_skipfold_does_not_use(bundle_copy: Path, bundle_document: BundleDocument) -> None:
    """A program elsewhere would follow the bundle, and the check would have shown something else."""
    artifact = next(a for a in bundle_document.artifacts if a.id == "openvino-fp32")
    settings = artifact.runtime.settings | {"INFERENCE_PRECISION_HINT": "bf16"}
    changed = replace(artifact, runtime=replace(artifact.runtime, settings=settings))
    with pytest.raises(
        UserError, match=r"settings \{.*'bf16'.*\}, and this version of skipfold uses \{.*'f32'"
    ):
        artifact_runtime(bundle_copy, changed)


def test_another_cpu(
    bundle_copy: Path, bundle_document: BundleDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    artifact = next(a for a in bundle_document.artifacts if a.id == "ort-fp32")
    with pytest.raises(UserError, match="ort-fp32 is for x86_64 or aarch64, and this is riscv64"):
        artifact_runtime(bundle_copy, artifact)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    artifact_runtime(bundle_copy, artifact)
