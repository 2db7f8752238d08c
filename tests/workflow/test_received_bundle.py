"""From a bundle that was received to verdicts: what is run, what fails and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from recorded_calls import HeardProgress, answered_at
from spoiled_bundles import replace_file, rewrite

from artifacts.names import MODEL
from errors import CheckFailed
from workflow.bundle import WrittenBundle, checked
from workflow.options import ReceivedOptions


def states_of(path: Path) -> dict[str, str]:
    return {outcome.id: outcome.state for outcome in checked(ReceivedOptions(check=path)).outcomes}


def test_a_whole_bundle_passes(written: WrittenBundle) -> None:
    listener = HeardProgress()
    assert written.archive is not None
    for path in (written.folder, written.archive):
        result = checked(ReceivedOptions(check=path, sha256=written.sha256), listener=listener)
        assert result.passed
        assert {outcome.state for outcome in result.outcomes} == {"passed"}
        assert all(outcome.reason == "" for outcome in result.outcomes)
    assert listener.lines[0] == ("files", f"{len(written.document.files)} files as bundle.json lists them")


def test_an_artifact_that_fails_is_named(bundle_copy: Path) -> None:
    logits = (bundle_copy / "golden/logits.ort-int8.f32").read_bytes()
    replace_file(bundle_copy, "golden/logits.ort-fp32.f32", logits)
    result = checked(ReceivedOptions(check=bundle_copy))
    assert not result.passed
    (failed,) = [outcome for outcome in result.outcomes if outcome.state == "failed"]
    assert failed.id == "ort-fp32"
    assert failed.reason.endswith("dB from the golden logits, under 80")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CheckFailed("it runs in float", "calibrate again"), "it runs in float"),
        (RuntimeError("no such operator\nat 0x1234"), "RuntimeError: no such operator"),
        (MemoryError(), "MemoryError: no message"),
    ],
)
def test_an_artifact_that_raises_fails_and_the_others_are_run(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    from bundling import trial

    original = trial.trial_of

    def raising(folder: Path, document: object, artifact: SimpleNamespace, threads: int | None) -> object:
        if artifact.id == "ort-int8":
            raise error
        return original(folder, document, artifact, threads)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "trial_of", raising)
    outcomes = {outcome.id: outcome for outcome in checked(ReceivedOptions(check=bundle_copy)).outcomes}
    assert (outcomes["ort-int8"].state, outcomes.pop("ort-int8").reason) == ("failed", reason)
    assert {outcome.state for outcome in outcomes.values()} == {"passed"}


def test_an_artifact_of_another_version_is_not_run(bundle_copy: Path) -> None:
    def of_the_future(fields: dict[str, list[dict[str, dict[str, str]]]]) -> None:
        for artifact in fields["artifacts"]:
            if artifact["runtime"]["name"] == "openvino":
                artifact["runtime"]["verified_version"] = "2099.1.0"

    rewrite(bundle_copy, of_the_future)
    states = states_of(bundle_copy)
    assert states == {
        "openvino-int8": "not run",
        "openvino-fp32": "not run",
        "ort-int8": "passed",
        "ort-fp32": "passed",
    }


def test_a_bundle_of_which_nothing_runs_has_not_passed(bundle_copy: Path) -> None:
    def for_others(fields: dict[str, list[dict[str, dict[str, list[str]]]]]) -> None:
        for artifact in fields["artifacts"]:
            artifact["hardware"]["arch"] = ["riscv64"]

    rewrite(bundle_copy, for_others)
    assert not checked(ReceivedOptions(check=bundle_copy)).passed
    assert set(states_of(bundle_copy).values()) == {"not run"}


def test_a_changed_file_ends_the_check(bundle_copy: Path) -> None:
    (bundle_copy / "models" / MODEL).write_bytes(b"other")
    with pytest.raises(CheckFailed, match=r"models/model\.onnx has 5 bytes"):
        checked(ReceivedOptions(check=bundle_copy))


def test_pictures_that_give_other_pixels_end_the_check(bundle_copy: Path, written: WrittenBundle) -> None:
    """Their hashes may be right: whoever decodes and resizes in another way finds out here."""
    first, second = written.document.golden.pictures[:2]
    replace_file(bundle_copy, first, (bundle_copy / second).read_bytes())
    with pytest.raises(CheckFailed, match=f"{first} gives other pixels here"):
        checked(ReceivedOptions(check=bundle_copy))


def test_a_signature_that_nobody_checked_is_named(bundle_copy: Path, written: WrittenBundle) -> None:
    (bundle_copy / "bundle.sig").write_text("{}")
    for path, expected in ((bundle_copy, True), (written.folder, False)):
        listener = HeardProgress()
        assert checked(ReceivedOptions(check=path), listener=listener).passed
        found = [text for stage, text in listener.lines if stage == "signature"]
        assert bool(found) == expected
        assert all(text.startswith("not checked, because --public-key") for text in found)


def test_a_signature_is_wanted_where_a_key_is_given(
    written: WrittenBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = answered_at(monkeypatch, "bundling.signing.check_signature", None)
    checked(ReceivedOptions(check=written.folder, public_key=tmp_path / "their.pub"))
    assert calls == [{"folder": written.folder, "public_key": tmp_path / "their.pub"}]
