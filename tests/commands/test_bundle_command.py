"""`bundle`: what is printed, in JSON too, and with which exit status."""

from pathlib import Path

import pytest
from command_line import Skipfold, assert_refused
from recorded_calls import answered_at
from spoiled_bundles import replace_file

from artifacts.run_directory import RunDirectory
from workflow.bundle import WrittenBundle


def test_a_bundle_is_written_and_passes(skipfold: Skipfold, bundled_run: RunDirectory) -> None:
    run = ("--run-dir", bundled_run.path)
    out = skipfold("bundle", *run, "--out", "out", "--archive", "--precision", "int8", "--json")
    assert out.status == 0, out
    document = out.document
    assert (document["command"], document["folder"], document["archive"]) == ("bundle", "out", "out.tar.zst")
    assert {entry["id"] for entry in document["bundle"]["artifacts"]} == {"ort-int8", "openvino-int8"}
    for path in ("out", "out.tar.zst"):
        checked = skipfold("bundle", "--check", path, "--sha256", document["sha256"], "--json")
        assert checked.status == 0, checked
        assert checked.document["passed"] is True
        assert checked.document["unverified"] is False
        states = {entry["id"]: entry["state"] for entry in checked.document["artifacts"]}
        assert states == {"ort-int8": "passed", "openvino-int8": "passed"}


def test_what_lies_beside_a_bundle_is_named(skipfold: Skipfold, bundled_run: RunDirectory) -> None:
    run = ("--run-dir", bundled_run.path, "--engine", "ort", "--precision", "fp32", "--out", "out")
    written = skipfold("bundle", *run, "--triton", "--json")
    assert written.status == 0, written
    places = {name: written.document[name] for name in ("folder", "archive", "triton", "web")}
    assert places == {"folder": "out", "archive": None, "triton": "out-triton", "web": None}
    assert Path("out-triton/digits-preact-8-ort-fp32/config.pbtxt").is_file()
    shown = skipfold("bundle", *run, "--triton")
    assert "triton     out-triton" in shown.out


def test_the_tables_name_every_artifact(skipfold: Skipfold, written: WrittenBundle) -> None:
    outcome = skipfold("bundle", "--check", written.folder)
    assert outcome.status == 0
    for artifact in written.document.artifacts:
        assert f"{artifact.id} " in outcome.out
    assert "check      passed" in outcome.out
    assert "warning" not in outcome.out


def test_a_failure_ends_with_1(skipfold: Skipfold, bundle_copy: Path) -> None:
    logits = (bundle_copy / "golden/logits.ort-int8.f32").read_bytes()
    replace_file(bundle_copy, "golden/logits.ort-fp32.f32", logits)
    outcome = skipfold("bundle", "--check", bundle_copy)
    assert outcome.status == 1
    assert "check      FAILED" in outcome.out
    outcome = skipfold("bundle", "--check", bundle_copy, "--json")
    assert (outcome.status, outcome.document["passed"]) == (1, False)


def test_a_changed_file_ends_with_1(skipfold: Skipfold, bundle_copy: Path) -> None:
    (bundle_copy / "README.md").write_text("other words")
    assert_refused(skipfold("bundle", "--check", bundle_copy), "README.md has 11 bytes", status=1)


def test_another_sha256_ends_with_1(skipfold: Skipfold, bundle_copy: Path) -> None:
    outcome = skipfold("bundle", "--check", bundle_copy, "--sha256", "0" * 64)
    assert_refused(outcome, "bundle.json has the sha256", status=1)


def test_no_bundle_ends_with_2(skipfold: Skipfold) -> None:
    assert_refused(skipfold("bundle", "--check", "absent"), "absent is not there")


@pytest.mark.parametrize(
    "option",
    [
        *(("--depth", 20), ("--engine", "ort"), ("--precision", "int8"), ("--out", "out")),
        *(("--u8",), ("--static-batch", 4), ("--triton",), ("--web",)),
        *(("--allow-saturation",), ("--no-cuda-graphs",), ("--with-sdk",)),
        *(("--archive",), ("--unverified",), ("--sign", "key"), ("--variant", "preact")),
    ],
)
def test_options_for_writing_beside_check_are_refused(skipfold: Skipfold, option: tuple[object, ...]) -> None:
    outcome = skipfold("bundle", "--check", "somewhere", *option)
    assert_refused(outcome, "--check somewhere reads a bundle, and the other options are for writing one")


@pytest.mark.parametrize("option", [("--sha256", "0"), ("--public-key", "key")])
def test_options_for_checking_without_check_are_refused(skipfold: Skipfold, option: tuple[str, ...]) -> None:
    outcome = skipfold("bundle", *option)
    assert_refused(outcome, "--sha256 and --public-key are for a bundle that was received", "add --check")


def test_options_of_a_check_reach_it(
    skipfold: Skipfold, written: WrittenBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signatures = answered_at(monkeypatch, "bundling.signing.check_signature", None)
    opened = answered_at(monkeypatch, "bundling.trial.trial_of", None)
    with pytest.raises(AttributeError):
        skipfold("bundle", "--check", written.folder, "--public-key", tmp_path / "key", "--threads", 3)
    assert [call["public_key"] for call in signatures] == [tmp_path / "key"]
    assert [call["threads"] for call in opened] == [3]
